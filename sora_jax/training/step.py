"""One training step: gradient, update, moving average; nothing changes if it is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from sora_jax.arrays import Batch
from sora_jax.training.protocols import Metrics
from sora_jax.training.state import State


def training_step(
    objective: Any,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    ema: float,
    accumulate: int = 1,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Returns the pure function of a step; the caller compiles it with shardings.

    With `accumulate` above 1 the optimiser (an `optax.MultiSteps`) averages that many steps'
    gradients, of whatever buckets, into one update.
    """

    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradient_of = jax.value_and_grad(objective.loss, has_aux=True)
        (loss, metrics), gradient = gradient_of(state.params, key, batch, state.step)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm) & jnp.isfinite(loss)
        # Zeros in place of a gradient that is not finite keep NaN out of the branch not taken.
        safe = jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0), gradient)
        updates, moments = optimizer.update(safe, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        # MultiSteps counts the gradients that were taken; a step that was skipped is none of them.
        updated = finite
        if isinstance(moments, optax.MultiStepsState):
            updated &= jnp.equal(moments.mini_step, 0)
        average = _average(state, params, decay=ema, updated=updated, accumulate=accumulate)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        skipped = (~finite).astype(jnp.int32)
        state = State(
            step=state.step + 1,
            params=keep(params, state.params),
            ema=average,
            moments=keep(moments, state.moments),
            skipped=state.skipped + skipped,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * skipped,
        )
        counters = {"skipped": state.skipped, "skipped_in_a_row": state.skipped_in_a_row}
        return state, metrics | counters | {"loss": loss, "gradient_norm": norm}

    return step


def _average(state: State, params: Any, *, decay: float, updated: Any, accumulate: int) -> Any:
    updates = (state.step // accumulate).astype(float)
    weight = 1 - warmed(decay, updates)
    return jax.tree.map(
        lambda old, new: jnp.where(updated, old + weight * (new - old), old), state.ema, params
    )


def warmed(decay: float, updates: Float[Array, ""] | Int[Array, ""]) -> Float[Array, ""]:
    """The decay of the average after `updates`: smaller at first, so that it forgets the start."""
    return jnp.minimum(decay, (1 + updates) / (10 + updates))
