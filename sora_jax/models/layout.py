"""How arrays lie on the ambient mesh, by the logical names of their dimensions."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax.linen.spmd import logical_to_mesh_axes, with_logical_constraint
from jax.sharding import PartitionSpec

Names = tuple[str | None, ...]


def platform() -> str:
    """Returns what is compiled for: cpu, gpu or tpu, of the ambient mesh or of this process."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def constrained(x: Any, names: Names) -> Any:
    """Returns `x` laid out over the mesh as the ambient rules say; a dimension that does not divide
    stays whole."""
    axes = spec(x.shape, names)
    kept = (name if axis else None for name, axis in zip(names, axes, strict=True))
    return with_logical_constraint(x, tuple(kept))


def spec(shape: tuple[int, ...], names: Names) -> PartitionSpec:
    """Returns the mesh axes of the ambient logical rules, without those that do not divide."""
    sizes = jax.sharding.get_abstract_mesh().shape
    mesh_axes: Any = logical_to_mesh_axes(names)
    axes = []
    for length, axis in zip(shape, mesh_axes, strict=True):
        parts = [sizes.get(a, 1) for a in axis_names(axis)]
        axes.append(axis if length % math.prod(parts) == 0 else None)
    return PartitionSpec(*axes)


def parts(name: str) -> int:
    """Returns how many devices share a dimension of this name; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.manual_axes:
        return 1
    (axis,) = logical_to_mesh_axes((name,)) or (None,)
    return math.prod(mesh.shape[each] for each in axis_names(axis))


def axis_names(axis: Any) -> tuple[str, ...]:
    """Returns the mesh axes of one dimension's rule."""
    return () if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)
