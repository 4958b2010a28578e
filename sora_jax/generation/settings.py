"""How a clip is sampled: what all tasks take by name, and the values that then apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypedDict

import jax
import numpy as np
from jaxtyping import Float

from sora_jax.arrays import Key
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Euler, Sampler

GUIDANCE = Guidance(scale=3.0)
"""What a task guides by, unless it has its own or is told otherwise."""

# What strengths may differ by from those that were asked for.
_LOST = 0.05


class Settings(TypedDict, total=False):
    """How a clip is sampled; all tasks take these by name.

    steps     of `Euler`, the sampler by default: 50. One that is given as `sampler` has its own.
    guidance  how strongly the prompt is followed: 1 not beyond what was learnt. A `Guidance` has an
              interval of times, a rescaling, and a scale for what is given. None, the default, is
              the task's own: 3, and for `loop` and `connect` 1.5 for what is given besides, which
              they keep where a number is given. Without a prompt there is nothing to follow.
    seed      the same seed gives the same clip; an integer of 64 bits with a sign. 0.
    negative  what to be guided away from.
    given_noise
              the diffusion time at which the model is shown what is given; a little, such as
              0.02, frees its movement. 0.
    progress  show a bar.
    """

    steps: int
    guidance: float | Guidance | None
    seed: int
    negative: str
    sampler: Sampler | None
    given_noise: float
    progress: bool


def strengths(asked: float | Sequence[float]) -> Float[np.ndarray, "moments"]:
    """Returns diffusion times that something is noised to, one or more. Raises ValueError for
    others than numbers in 0..1."""
    levels = np.atleast_1d(np.asarray(asked, np.float32))
    if levels.ndim > 1 or not levels.size or not np.all((levels >= 0) & (levels <= 1)):
        raise ValueError(f"strength={asked}: give numbers in 0..1")
    return levels


def spread(
    levels: Float[np.ndarray, "moments"], count: int
) -> Float[np.ndarray, "latent_frames 1 1"]:
    """Returns the start level of each of `count` latent frames: `levels` evenly spread over them,
    from the first to the last, with levels between.

    Of no more moments than latent frames none is lost between two of these: those no farther from
    it than half of the way to the next have its level. Raises ValueError where of more moments the
    highest or the lowest lies between.
    """
    moments, places = np.linspace(0, 1, len(levels)), np.linspace(0, 1, count)
    spaced = np.interp(places, moments, levels)
    if len(levels) <= count:
        near = np.abs(places[:, None] - moments) <= (0.5 + 1e-6) / max(count - 1, 0.5)
        spaced = np.where(near.any(1), np.where(near, levels, 0).max(1), spaced)
    elif spaced.max() < levels.max() - _LOST or spaced.min() > levels.min() + _LOST:
        raise ValueError(
            f"strength={levels.tolist()}: {count} latents would have {spaced.round(2).tolist()}, "
            f"without the highest or the lowest; give {count} numbers or fewer, or more frames"
        )
    return spaced[:, None, None]


def key_of(seed: int) -> Key:
    """Returns the key of a seed of 64 bits, another one for each."""
    # Of an integer JAX takes the lower half alone, unless it is told to work in 64 bits.
    key, upper = jax.random.key(seed & 0xFFFFFFFF), seed >> 32 & 0xFFFFFFFF
    return jax.random.fold_in(key, upper) if upper else key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """`Settings`, each with a value."""

    sampler: Sampler
    guidance: Guidance
    seed: int
    negative: str
    given_noise: float
    progress: bool

    @classmethod
    def of(
        cls,
        *,
        steps: int | None = None,
        guidance: float | Guidance | None = None,
        seed: int = 0,
        negative: str = "",
        sampler: Sampler | None = None,
        given_noise: float = 0.0,
        progress: bool = False,
        own: Guidance = GUIDANCE,
    ) -> Sampling:
        """Fills in what is not given; `own` is the task's guidance. Raises ValueError for
        impossible values."""
        if not 0 <= given_noise <= 1:
            raise ValueError(f"given_noise={given_noise}: give a diffusion time in 0..1")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed={seed}: give an integer from -2^63 to 2^63 - 1")
        if steps is not None and sampler is not None:
            raise ValueError(f"steps={steps} beside a sampler, which has its own: give one of them")
        if guidance is None:
            guidance = own
        elif not isinstance(guidance, Guidance):
            guidance = dataclasses.replace(own, scale=guidance)
        return cls(
            sampler=sampler or Euler(steps=50 if steps is None else steps),
            guidance=guidance,
            seed=seed,
            negative=negative,
            given_noise=given_noise,
            progress=progress,
        )
