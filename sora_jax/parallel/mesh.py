"""The device mesh, and the sharding of every array of a run on it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import flax.linen as nn
import jax
import numpy as np
from flax.linen import spmd
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sora_jax.arrays import Share
from sora_jax.parallel.rules import MeshAxis, Rules


class MeshError(ValueError):
    """A mesh does not fit the devices, or a batch the mesh."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """How many devices lie along each axis; one axis may be -1, for all that are left.

    `slices` are joined by a slower network, over which nothing but gradients goes; the other axes
    lie within each.
    """

    slices: int = 1
    data: int = -1
    fsdp: int = 1
    sequence: int = 1
    tensor: int = 1
    devices: int | None = None
    """Use the first so many devices only, to measure scaling; None uses all."""
    rules: Rules = Rules()

    def __post_init__(self) -> None:
        for axis in get_args(MeshAxis):
            size = getattr(self, axis)
            if size < 1 and size != -1:
                raise MeshError(
                    f"mesh.{axis} is {size}; give 1 or more, or -1 for all that are left"
                )
        if self.devices is not None and self.devices < 1:
            raise MeshError(f"mesh.devices is {self.devices}; give 1 or more, or leave it out")

    def build(self, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
        """Returns the mesh over `devices`, by default those there are; raises MeshError if they do
        not fit."""
        devices = jax.devices() if devices is None else devices
        if self.devices is not None and self.devices > len(devices):
            raise MeshError(f"mesh.devices is {self.devices}, and there are {len(devices)} devices")
        devices = devices[: self.devices]
        sizes = {axis: getattr(self, axis) for axis in get_args(MeshAxis)}
        known = math.prod(size for size in sizes.values() if size > 0)
        free = [axis for axis, size in sizes.items() if size == -1]
        if len(free) > 1 or len(devices) % known or (not free and known != len(devices)):
            limit = "" if self.devices is None else f" (mesh.devices={self.devices})"
            shape = " x ".join(f"{axis}={size}" for axis, size in sizes.items())
            raise MeshError(
                f"mesh {shape} does not fit {len(devices)} devices{limit}: the product must be "
                "their number, and one axis at most may be -1 (all that are left)"
            )
        sizes |= {axis: len(devices) // known for axis in free}
        return jax.sharding.Mesh(
            _laid_out(tuple(sizes.values()), devices),
            tuple(sizes),
            axis_types=(AxisType.Auto,) * len(sizes),
        )

    @contextlib.contextmanager
    def use(self, mesh: jax.sharding.Mesh) -> Iterator[None]:
        """Makes `mesh` and the rules ambient: what models name is then sharded."""
        with jax.set_mesh(mesh), nn.logical_axis_rules(self.rules.pairs()):
            yield

    def shardings(self, boxed: Any, mesh: jax.sharding.Mesh) -> Any:
        """Returns a NamedSharding for each array of an abstract tree with Linen's axis names.

        A dimension that its mesh axes do not all divide is shared by the first of them that do, or
        stays whole: refusing it would forbid meshes that suit everything else.
        """
        specs = spmd.logical_to_mesh(nn.get_partition_spec(_filled(boxed)), self.rules.pairs())
        arrays = unboxed(boxed)
        return jax.tree.map(
            lambda array, spec: NamedSharding(mesh, _divisible(array.shape, spec, mesh)),
            arrays,
            specs,
        )

    def batch_sharding(self, mesh: jax.sharding.Mesh) -> NamedSharding:
        """The sharding of what the loader yields: along rows, by the rule of `batch`."""
        return NamedSharding(mesh, PartitionSpec(self.rules.batch))

    def share(self, mesh: jax.sharding.Mesh) -> Share:
        """Returns the rows of a batch that this process's devices need. Where a row lies across
        several processes, each of them has it. Raises MeshError if it has no device of the mesh."""
        ways = self._ways(mesh)
        parts = self.batch_sharding(mesh).addressable_devices_indices_map((ways,)).values()
        own = sorted({part[0].indices(ways)[0] for part in parts if part is not None})
        if not own:
            raise MeshError(
                f"process {jax.process_index()} has none of the {mesh.size} devices of the mesh: "
                "leave mesh.devices out, or start fewer processes"
            )
        processes = len({device.process_index for device in mesh.devices.flat})
        return Share(tuple(own), ways, copied=processes * len(own) > ways)

    def place(self, leaf: np.ndarray, mesh: jax.sharding.Mesh) -> jax.Array:
        """Returns the global array of which `leaf` is this process's share of the rows."""
        share = self.share(mesh)
        shape = (leaf.shape[0] * share.of // len(share.parts), *leaf.shape[1:])
        held = {rows.start: rows for rows in share.rows(shape[0])}
        where = {start: place * len(rows) for place, (start, rows) in enumerate(held.items())}

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            start = index[0].indices(shape[0])[0]
            return leaf[where[start] : where[start] + len(held[start])]

        return jax.make_array_from_callback(shape, self.batch_sharding(mesh), part)

    def _ways(self, mesh: jax.sharding.Mesh) -> int:
        return math.prod(mesh.shape[axis] for axis in _names(self.rules.batch))

    def check_batch(self, batch: int, mesh: jax.sharding.Mesh, *, bucket: str) -> None:
        """Raises MeshError if the rows of a bucket cannot be dealt out evenly."""
        ways = self._ways(mesh)
        if batch % ways:
            raise MeshError(
                f"bucket {bucket} has {batch} rows, which {ways} devices along "
                f"{self.rules.batch} cannot share evenly; make its batch a multiple of {ways} "
                f"(with derived buckets: --STAGE.data.buckets.multiple {ways}), or use fewer "
                "devices (--STAGE.mesh.devices 1)"
            )


def _laid_out(shape: tuple[int, ...], devices: Sequence[Any]) -> Any:
    """Devices in the shape of a mesh, neighbours in it being neighbours in the machine."""
    # GPUs have a number of this name too, that of their host, which sets no bounds to a mesh.
    slices = {
        getattr(device, "slice_index", 0) if device.platform == "tpu" else 0 for device in devices
    }
    if len(slices) == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    if len(slices) != shape[0]:
        raise MeshError(
            f"mesh.slices is {shape[0]} and the devices are of {len(slices)} slices: make it so"
        )
    ones = (1,) * (len(shape) - 1)
    return mesh_utils.create_hybrid_device_mesh(
        (1, *shape[1:]), (shape[0], *ones), devices, allow_split_physical_axes=True
    )


def unboxed(tree: Any) -> Any:
    """Returns `tree` without Linen's boxes of axis names.

    Unlike `flax.linen.unbox` it constrains nothing, and so takes abstract arrays under a mesh.
    """
    return jax.tree.map(
        lambda leaf: leaf.value if isinstance(leaf, nn.LogicallyPartitioned) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned),
    )


def _filled(boxed: Any) -> Any:
    """Returns `boxed` with nothing in place of boxes around nothing, as optax leaves them where
    moments of a kind are those of some parameters only."""
    return jax.tree.map(
        lambda leaf: leaf if jax.tree.leaves(leaf) else leaf.value,
        boxed,
        is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned),
    )


def _names(axes: Any) -> tuple[str, ...]:
    if axes is None:
        return ()
    return (axes,) if isinstance(axes, str) else tuple(axes)


def _divisible(
    shape: tuple[int, ...], spec: PartitionSpec, mesh: jax.sharding.Mesh
) -> PartitionSpec:
    def keep(size: int, axes: Any) -> Any:
        kept, ways = [], 1
        for axis in _names(axes):
            ways *= mesh.shape[axis]
            if size % ways:
                break
            kept.append(axis)
        return axes if len(kept) == len(_names(axes)) else tuple(kept) or None

    if len(spec) > len(shape):  # of a parameter whose moment is less than one: rows, columns
        return PartitionSpec()
    padded = tuple(spec) + (None,) * (len(shape) - len(spec))
    return PartitionSpec(*(keep(size, axes) for size, axes in zip(shape, padded, strict=True)))
