"""Classifier-free guidance: away from the unconditional estimate, u + scale (c - u).

arXiv 2207.12598, in the convention in which scale 1 is the conditional estimate and scale 0 the
unconditional one. Only within an interval of times, arXiv 2404.07724; with the spread of the
conditional estimate given back, arXiv 2305.08891, section 3.4.

A model that is given frames is conditioned twice, on the text and on the frames, and each has a
scale of its own (as in arXiv 2211.09800, but each contrast is taken from the estimate c that knows
both, so that neither scale needs the other's estimate): with u that knows no text and a that knows
no frames,

    c + (scale - 1) (c - u) + (given - 1) (c - a)
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.diffusion.prediction import Estimate, from_clean
from sora_jax.diffusion.schedules import Schedule, Time, Values, along


@dataclasses.dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly the condition is followed, when, and how much of the contrast is taken back.

    scale     1 is the conditional model alone; above, the text is exaggerated.
    given     the same for the frames that are given; a model that is given none ignores it.
    interval  the diffusion times, ends included, in which the scale applies; elsewhere it is 1.
    rescale   0..1, how far the standard deviation of each sample's clean estimate is brought back
              to that of its conditional estimate. (The paper rescales the model's output; at t = 1,
              where the overexposure that it cures begins, its v output is the clean estimate up to
              sign. On the clean estimate it means the same for every prediction.)
    """

    scale: float = 1.0
    given: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"guidance scale {self.scale}: give 0 (unconditional) or more")
        if not 0 <= self.given < math.inf:
            raise ValueError(f"guidance given {self.given}: give 0 (as if none were) or more")
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise ValueError(f"guidance interval {self.interval}: give 0 <= low <= high <= 1")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance rescale {self.rescale}: give a number in 0..1")

    @property
    def active(self) -> bool:
        """Whether the estimate without text is needed at all."""
        return self.scale != 1.0

    @property
    def weighs_given(self) -> bool:
        """Whether the estimate without given frames is needed at all."""
        return self.given != 1.0

    @property
    def estimates(self) -> int:
        """How many estimates are made at once."""
        return 1 + self.active + self.weighs_given

    def __call__(
        self,
        conditional: Estimate,
        unconditional: Estimate | None,
        x: Values,
        t: Time,
        *,
        schedule: Schedule,
        valid: Bool[Array, "..."] | None = None,
        alone: Estimate | None = None,
    ) -> Estimate:
        """Returns the guided estimate of the parts of `x` at `t`.

        unconditional  the estimate with no prompt, or with a negative prompt; None unless `active`.
        valid          the places that count in a sample's standard deviation, of the shape of `x`
                       without channels; all by default.
        alone          the estimate with the prompt, but without given frames; None unless
                       `weighs_given`.

        Where guidance does not apply, the conditional estimate comes back to the bit.
        """
        if self.estimates == 1:
            return conditional
        t = along(t, x)
        within = (t >= self.interval[0]) & (t <= self.interval[1])
        guided = conditional
        if unconditional is not None:
            guided = _combined(conditional, unconditional, self.scale)
        if alone is not None:
            more = _combined(conditional, alone, self.given)
            guided = Estimate(
                clean=guided.clean + more.clean - conditional.clean,
                noise=guided.noise + more.noise - conditional.noise,
            )
        if self.rescale > 0:
            factor = _spread(conditional.clean, valid) / _spread(guided.clean, valid)
            clean = guided.clean * (1 + self.rescale * (factor - 1))
            guided = from_clean(clean, x, t, schedule=schedule)
        return Estimate(
            clean=jnp.where(within, guided.clean, conditional.clean),
            noise=jnp.where(within, guided.noise, conditional.noise),
        )


def _combined(c: Estimate, u: Estimate, scale: float) -> Estimate:
    return Estimate(
        clean=u.clean + scale * (c.clean - u.clean),
        noise=u.noise + scale * (c.noise - u.noise),
    )


def _spread(x: Float[Array, "batch *rest"], valid: Bool[Array, "..."] | None):
    """Returns the standard deviation of each row's valid values, its axes kept; never 0."""
    where = None if valid is None else jnp.broadcast_to(valid[..., None], x.shape)
    axes = tuple(range(1, x.ndim))
    # A row without valid places would give 0 / 0; any number serves it.
    return jnp.maximum(jnp.nan_to_num(jnp.std(x, axes, keepdims=True, where=where)), 1e-8)
