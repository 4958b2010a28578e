"""How noisy each place of a training sample is, and which places are given."""

from __future__ import annotations

import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.arrays import Extent, Key, Known, Sigma
from sora_jax.diffusion.times import Times


# Unchecked at run time: as a pytree it also carries shapes, shardings and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
    """The noise field of a batch, and the places that are given rather than asked for."""

    t: Sigma
    known: Known


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformLevels:
    """One diffusion time for all places of a row, and nothing known."""

    def draw(
        self,
        keys: Key,
        u: Float[Array, "batch"],
        *,
        times: Times,
        tokens: Int[Array, "batch"],
        extent: Extent,
    ) -> Levels:
        """Returns fields with an axis of size 1 where they do not vary.

        keys    a key for each row, for what else is random.
        u       a number in (0, 1) for each row, evenly spread over the batch: each row's main time.
        tokens  the sequence length of each row; extent, its valid places, in latents.
        """
        t = times.from_uniform(u, tokens=tokens)[:, None, None, None]
        return Levels(t=t, known=jnp.zeros(t.shape, bool))
