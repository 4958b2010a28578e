"""What is given to a model, where, and how firmly: every task of generation as one field.

A canvas is a reference r on the latent grid and a start level s for each place: 1 where something
is to be made, 0 where r is given, between where r is to be edited (SDEdit, arXiv 2108.01073, place
by place). Sampling begins with x = signal(s) r + noise(s) e and keeps each place at the local time
min(t, s); so what is given comes out as it went in, to the bit.

| task                    | reference                 | start levels                         |
|-------------------------|---------------------------|--------------------------------------|
| text to video, to image | none                      | 1                                    |
| animate an image        | the image                 | 0 in the first frame, else 1         |
| extend, loop            | the frames around the gap | 0 in them, 1 in the gap              |
| connect                 | these, faded in the gap   | 0 in them, its strength in the gap   |
| edit                    | the clip                  | its strength, everywhere or by frame |
| retake                  | the clip                  | 0 outside a span and a box, 1 inside |
"""

from __future__ import annotations

import dataclasses
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.arrays import HostOrDevice, Latent, Size
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Estimator
from sora_jax.diffusion.schedules import Time, Values

RING_CONTEXT = 2
"""Latents of a ring that are shown again before it, where it is cut open."""


# Unchecked at run time: as a pytree it also carries shapes and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """What sampling starts from.

    reference  normalised latents [batch, frames, height, width, channels]; 0 where there are none.
    start      start levels in 0..1, of the same form without channels; axes of size 1 do not vary.
    """

    reference: Float[Array, "batch frames height width channels"]
    start: Float[Array, "batch #frames #height #width"]

    @classmethod
    def blank(cls, size: Size, channels: int, *, batch: int = 1) -> Canvas:
        """Returns a canvas of `size` latents on which nothing is given."""
        return cls(reference=jnp.zeros((batch, *size, channels)), start=jnp.ones((batch, 1, 1, 1)))

    def put(
        self,
        latent: Float[HostOrDevice, "#batch f height width channels"],
        *,
        at: int,
        level: float | Float[HostOrDevice, "..."] = 0.0,
    ) -> Canvas:
        """Returns the canvas with latents in its frames from `at` on, at a start level.

        `level` is a number or has the axes frames, height and width, of size 1 where it does not
        vary. Raises ValueError for others, and beyond the canvas.
        """
        whole = Size(*self.reference.shape[1:4])
        count = latent.shape[1]
        if at < 0 or at + count > whole.frames:
            raise ValueError(
                f"latent frames {at} to {at + count} do not lie on a canvas of {whole.frames}"
            )
        level = jnp.asarray(level, float)
        if level.ndim not in (0, 3):
            raise ValueError(
                f"level has the shape {level.shape}; give a number, or frames, height and width"
            )
        level = level.reshape(level.shape or (1, 1, 1))
        start = jnp.broadcast_to(
            self.start,
            (len(self.start), whole.frames, *map(max, self.start.shape[2:], level.shape[1:])),
        )
        there = slice(at, at + count)
        return Canvas(
            reference=self.reference.at[:, there].set(jnp.asarray(latent)),
            start=start.at[:, there].set(jnp.broadcast_to(level, start[:, there].shape[1:])),
        )

    @property
    def known(self) -> Bool[Array, "batch #frames #height #width"]:
        """The places that are given."""
        return self.start == 0


def estimator(
    denoiser: Any,
    params: Any,
    condition: Any,
    canvas: Canvas,
    *,
    noise: Latent,
    given_noise: Float[Array, ""] | float,
    guidance: Guidance,
) -> Estimator:
    """Returns the estimator of a denoiser that is given what is on a canvas.

    noise        what x was begun with.
    given_noise  the time at which the model is shown what is given, as in training now and then: a
                 little noise there lets it rely less on details that an earlier hop made up. What
                 is given stays as it is nonetheless.
    """
    known = canvas.known

    def at_level(x: Values, t: Values, level: Values) -> tuple[Values, Values]:
        given = denoiser.schedule.mix(canvas.reference, noise, level)
        return jnp.where(known[..., None], given, x), jnp.where(known, level, t)

    def forgotten(x: Values, t: Values) -> tuple[Values, Values]:
        return at_level(x, t, _front(t))

    inner = denoiser.estimator(
        params, condition, known=known, guidance=guidance, forgotten=forgotten
    )

    def estimate(x: Values, t: Time) -> Any:
        field = jnp.broadcast_to(jnp.asarray(t, float), known.shape)
        return inner(*at_level(x, field, jnp.minimum(given_noise, _front(field))))

    return estimate


def _front(t: Values) -> Values:
    """The time of what is being made: that of each row's noisiest place."""
    return t.max(axis=(1, 2, 3), keepdims=True)


def ring(inner: Estimator, noise: Latent, *, offset: Any, context: int = RING_CONTEXT) -> Estimator:
    """Returns an estimator of latents that close to a ring, from one of open clips.

    Each step sees the ring cut open at another place (`offset`; arXiv 2502.20307), so that no join
    is left. The first latent of a clip stands for one frame, which no latent of a ring does: the
    model is shown one that is pure noise, by a time of its own, before the `context` last latents,
    repeated, and the ring.

    noise  [batch, 1, height, width, channels].
    """

    def estimate(x: Values, t: Time) -> Any:
        count = x.shape[1]
        order = jnp.arange(-context, count) + offset
        opened = jnp.concatenate([noise, jnp.take(x, order % count, axis=1)], axis=1)
        times = jnp.full((len(x), 1 + len(order), 1, 1), jnp.asarray(t).max()).at[:, 0].set(1.0)
        parts = inner(opened, times)
        back = 1 + context + (jnp.arange(count) - offset) % count
        return jax.tree.map(lambda part: jnp.take(part, back, axis=1), parts)

    return estimate
