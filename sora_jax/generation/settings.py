"""How a clip is sampled: what all tasks take by name, and the values that then apply."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Euler, Sampler

GUIDANCE = Guidance(scale=3.0)
"""What a task guides by, unless it has its own or is told otherwise."""


class Settings(TypedDict, total=False):
    """How a clip is sampled; all tasks take these by name.

    steps     of the sampler, which is `Euler` by default; one that is given brings its own. 50.
    guidance  how strongly the prompt is followed: 1 not beyond what was learnt. A `Guidance` has an
              interval of times, a rescaling, and a scale for what is given. None, the default, is
              the task's own: 3, and for `loop` and `connect` 1.5 for what is given besides, which
              they keep where a number is given. Without a prompt there is nothing to follow.
    seed      the same seed gives the same clip; an integer of 64 bits with a sign. 0.
    negative  what to be guided away from.
    held      the diffusion time at which the model is shown what is given; a little, such as 0.02,
              frees its movement. 0.
    progress  show a bar.
    """

    steps: int
    guidance: float | Guidance | None
    seed: int
    negative: str
    sampler: Sampler | None
    held: float
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
    it than half of the way to the next have its level. Raises ValueError where of more moments all
    that is above 0 lies between.
    """
    moments, places = np.linspace(0, 1, len(levels)), np.linspace(0, 1, count)
    spaced = np.interp(places, moments, levels)
    if len(levels) <= count:
        near = np.abs(places[:, None] - moments) <= (0.5 + 1e-6) / max(count - 1, 0.5)
        spaced = np.where(near.any(1), np.where(near, levels, 0).max(1), spaced)
    elif levels.any() and not spaced.any():
        raise ValueError(
            f"strength={levels.tolist()}: what is above 0 falls between {count} latents; "
            "give fewer numbers, or more frames"
        )
    return spaced[:, None, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """`Settings`, each with a value."""

    sampler: Sampler
    guidance: Guidance
    seed: int
    negative: str
    held: float
    progress: bool

    @classmethod
    def of(
        cls,
        *,
        steps: int = 50,
        guidance: float | Guidance | None = None,
        seed: int = 0,
        negative: str = "",
        sampler: Sampler | None = None,
        held: float = 0.0,
        progress: bool = False,
        own: Guidance = GUIDANCE,
    ) -> Sampling:
        """Fills in what is not given; `own` is the task's guidance. Raises ValueError for
        impossible values."""
        if not 0 <= held <= 1:
            raise ValueError(f"held={held}: give a diffusion time in 0..1")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed={seed}: give an integer from -2^63 to 2^63 - 1")
        if guidance is None:
            guidance = own
        elif not isinstance(guidance, Guidance):
            guidance = dataclasses.replace(own, scale=guidance)
        return cls(
            sampler=Euler(steps=steps) if sampler is None else sampler,
            guidance=guidance,
            seed=seed,
            negative=negative,
            held=held,
            progress=progress,
        )
