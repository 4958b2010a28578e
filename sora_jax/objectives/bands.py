"""Losses of a batch, and of the bands of diffusion time apart."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.arrays import Sigma
from sora_jax.diffusion.schedules import Values

BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Edges of the bands of diffusion time in which the loss is reported apart."""

Places = Float[Array, "batch latent_frames latent_height latent_width"]


def ratio(above: Values, below: Values | Int[Array, "..."]) -> Values:
    """Returns above / below, and 0 where `below` is 0."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)


def by_band(error: Places, share: Places, t: Sigma) -> dict[str, Float[Array, ""]]:
    """Returns the pairs `loss_sigma_LOW_HIGH/sum` and `/count` of the places within each band."""
    metrics = {}
    for low, high in itertools.pairwise(BANDS):
        within = share * ((t >= low) & ((t < high) | (high == 1)))
        metrics[f"loss_sigma_{low}_{high}/sum"] = jnp.sum(within * error)
        metrics[f"loss_sigma_{low}_{high}/count"] = jnp.sum(within)
    return metrics
