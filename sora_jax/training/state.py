"""All that changes while a run goes on, and where it lies on the mesh from birth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from sora_jax.arrays import Batch
from sora_jax.parallel.mesh import Mesh, unboxed


# Unchecked at run time: as a pytree it also carries shapes and shardings.
@no_type_check
@flax.struct.dataclass
class State:
    """Parameters, their average, the optimiser's moments, and the counters of the loop."""

    step: Int[Array, ""]
    params: Any
    ema: Any
    moments: Any
    skipped: Int[Array, ""]
    """Steps whose gradient was not finite, and so changed nothing."""
    skipped_in_a_row: Int[Array, ""]

    def counters(self) -> dict[str, Any]:
        """Everything but the parameters, as one tree for a checkpoint."""
        names = ("step", "moments", "skipped", "skipped_in_a_row")
        return {name: getattr(self, name) for name in names}


def initializer(
    objective: Any, optimizer: optax.GradientTransformation, *, seed: int, batch: Batch
) -> Callable[[], State]:
    """Returns the function that makes the first state; `batch` is abstract, shapes alone matter."""

    def make() -> State:
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch)
        params = objective.init(jax.random.key(seed), empty)
        zero = jnp.zeros((), jnp.int32)
        return State(
            step=zero,
            params=params,
            ema=jax.tree.map(jnp.copy, params),
            moments=optimizer.init(params),
            skipped=zero,
            skipped_in_a_row=zero,
        )

    return make


def sharded(make: Callable[[], State], mesh: Mesh, devices: jax.sharding.Mesh) -> tuple[Any, Any]:
    """Returns the abstract state with shardings, and the compiled function that makes it sharded.

    No device and no host ever holds a whole copy of what the rules cut.
    """
    with mesh.use(devices):
        boxed = jax.eval_shape(make)
        shardings = mesh.shardings(boxed, devices)
        born = jax.jit(
            lambda: unboxed(make()), out_shardings=shardings, compiler_options=_quickly()
        )
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        unboxed(boxed),
        shardings,
    )
    return abstract, born


def _quickly() -> dict[str, bool | int | str] | None:
    # What makes the parameters runs once. Optimising its many random draws takes the CPU compiler
    # a minute and saves nothing.
    return {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
