"""How a clip is sampled: what all tasks take by name, and the values that then apply."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from numbers import Integral
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sora_jax.arrays import Key
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Euler, Sampler

log = logging.getLogger("sora_jax")

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
    seed      the same seed gives the same clip; an integer of 64 bits with a sign. 0. Tasks that
              begin with a clip have another noise than `generate`, but the same as one another:
              what one of them made is changed more freely with another seed.
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
    it than half of the way to the next have its level. Of more, some are: what is left is logged
    where it is off by more than a tenth. Raises ValueError where the highest or the lowest is lost
    (by more than a twentieth), and where nothing above 0 is left.
    """
    moments, places = np.linspace(0, 1, len(levels)), np.linspace(0, 1, count)
    spaced = np.interp(places, moments, levels)
    if len(levels) <= count:
        near = np.abs(places[:, None] - moments) <= (0.5 + 1e-6) / max(count - 1, 0.5)
        spaced = np.where(near.any(1), np.where(near, levels, 0).max(1), spaced)
        return spaced[:, None, None]
    lowest, highest = spaced.min() - _LOST, spaced.max() + _LOST
    if not lowest <= levels.min() <= levels.max() <= highest or levels.any() > spaced.any():
        raise ValueError(
            f"strength={levels.tolist()}: {count} latents would have {spaced.round(2).tolist()}, "
            f"without the highest or the lowest; give {count} numbers or fewer, or more frames"
        )
    if np.abs(np.interp(moments, places, spaced) - levels).max() > 2 * _LOST:
        log.warning("strength: the %d latents have %s", count, spaced.round(2).tolist())
    return spaced[:, None, None]


def key_of(seed: int) -> Key:
    """Returns the key of a seed of 64 bits, another one for each."""
    # The key that `jax.random.key` has where JAX works in 64 bits; else it takes the lower half.
    halves = jnp.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], jnp.uint32)
    return jax.random.wrap_key_data(halves, impl="threefry2x32")


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
        if not isinstance(seed, Integral) or not -(2**63) <= seed < 2**63:
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
            seed=int(seed),
            negative=negative,
            given_noise=given_noise,
            progress=progress,
        )
