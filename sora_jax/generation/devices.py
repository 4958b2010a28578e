"""The devices that make clips together: none in particular, or those of a mesh.

On a mesh the parameters are cut up as in training. Rows, and the estimates that guidance makes of
each, are dealt out along its data and fsdp axes, the tokens of a clip along its sequence axis. For
the autoencoder pictures are cut in bands of rows, and where there are more devices than rows can be
dealt to, the frames of a stretch among those. What a model is asked comes to every
device, and what it makes to every process.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.spmd import logical_to_mesh_axes
from jax.sharding import NamedSharding, PartitionSpec

from sora_jax.arrays import Size
from sora_jax.models.layout import parts
from sora_jax.parallel.mesh import Mesh


class Devices:
    """The devices of a mesh; without one, whatever JAX takes by itself.

    Raises MeshError if the mesh does not fit the devices that there are.
    """

    def __init__(self, mesh: Mesh | None = None):
        self._mesh = mesh
        self._built = None if mesh is None else mesh.build()

    @classmethod
    def ambient(cls) -> Devices:
        """Those of the mesh within whose context this is called, such as a training's."""
        found, built = cls(), jax.sharding.get_mesh()
        found._built = None if built.empty else built
        return found

    def __bool__(self) -> bool:
        """Whether there is a mesh."""
        return self._built is not None

    def sharing(self, rows: int) -> int:
        """Returns how many devices share a step of the transformer over so many rows."""
        with self.use():
            ways = parts("batch")
            return (ways if rows % ways == 0 else 1) * parts("tokens") * parts("activation_heads")

    def sharing_pictures(self, latent: Size, *, begins: bool) -> int:
        """Returns how many devices share the autoencoder's work on a stretch of latents, which
        `begins` a clip or goes on with one."""
        sizes = {} if self._built is None else self._built.shape
        axes = [axis for dealt in self._picture_axes(latent, begins).values() for axis in dealt]
        return math.prod(sizes[axis] for axis in axes)

    def use(self) -> contextlib.AbstractContextManager[None]:
        """What runs within this is laid out over the mesh."""
        if self._mesh is None or self._built is None:
            return contextlib.nullcontext()
        return self._mesh.use(self._built)

    @contextlib.contextmanager
    def use_for_pictures(self, latent: Size, *, begins: bool) -> Iterator[None]:
        """The same for the autoencoder at work on such a stretch."""
        with self.use():
            if self._built is None:
                yield
                return
            rules = dict(nn.get_logical_axis_rules()) | self._picture_axes(latent, begins)
            with nn.logical_axis_rules(tuple((rules | {"batch": None}).items())):
                yield

    def _picture_axes(self, latent: Size, begins: bool) -> dict[str, tuple[str, ...]]:
        """The axes among which rows and frames are dealt out. The beginning of a clip goes by rows
        alone: its first latent is one frame, so that its frames in pixels do not divide."""
        dealt: dict[str, tuple[str, ...]] = {"height": (), "frames": ()}
        left = {"height": latent.height, "frames": 1 if begins else latent.frames}
        for axis, size in ({} if self._built is None else self._built.shape).items():
            if name := next((name for name in dealt if left[name] % size == 0), None):
                dealt[name] += (axis,)
                left[name] //= size
        return dealt

    def shardings(self, boxed: Any) -> Any:
        """Returns where each parameter lies, of an abstract tree with its axis names."""
        assert self._mesh is not None and self._built is not None
        return self._mesh.shardings(boxed, self._built)

    def everywhere(self, tree: Any) -> Any:
        """Returns arrays that every process has alike, or that lie on the mesh, as every device and
        so every process has them."""
        if self._built is None:
            return tree
        whole = NamedSharding(self._built, PartitionSpec())
        return jax.tree.map(lambda leaf: _laid(leaf, whole), tree)

    def dealt(self, tree: Any) -> Any:
        """Returns arrays of rows that every process has alike, so that each device has its rows;
        all of them where they cannot be dealt out evenly."""
        rows = {len(leaf) for leaf in jax.tree.leaves(tree)}
        if self._built is None or any(count % parts("batch") for count in rows):
            return self.everywhere(tree)
        by_row = NamedSharding(self._built, logical_to_mesh_axes(("batch",)) or PartitionSpec())
        return jax.tree.map(lambda leaf: _laid(leaf, by_row), tree)


@functools.cache
def _spread(place: NamedSharding) -> Any:
    return jax.jit(lambda x: x, out_shardings=place)


def _laid(array: Any, place: NamedSharding) -> Any:
    if isinstance(array, jax.Array) and array.sharding.device_set == place.device_set:
        return _spread(place)(array)
    array = jnp.asarray(array)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_laid(jax.random.key_data(array), place))
    values = np.asarray(array)
    return jax.make_array_from_callback(values.shape, place, lambda index: values[index])


ANY = Devices()
