"""The devices that make clips together: none in particular, or those of a mesh.

On a mesh the parameters are cut up as in training. Rows, and the estimates that guidance makes of
each, are dealt out along its data and fsdp axes, the tokens of a clip along its sequence axis, and
pictures, for the autoencoder, in bands of rows among all. What a model is asked comes to every
device, and what it makes to every process.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

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

    def sharing_picture(self, height: int) -> int:
        """Returns how many devices share a picture of so many rows of latents."""
        count = 1 if self._built is None else self._built.size
        return count if height % count == 0 else 1

    def use(self) -> contextlib.AbstractContextManager[None]:
        """What runs within this is laid out over the mesh."""
        if self._mesh is None or self._built is None:
            return contextlib.nullcontext()
        return self._mesh.use(self._built)

    @contextlib.contextmanager
    def use_for_pictures(self) -> Iterator[None]:
        """The same for the autoencoder, whose pictures are cut into bands."""
        with self.use():
            if self._built is None:
                yield
                return
            bands = {"batch": None, "height": tuple(self._built.axis_names)}
            rules = dict(nn.get_logical_axis_rules()) | bands
            with nn.logical_axis_rules(tuple(rules.items())):
                yield

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


@functools.cache
def _spread(whole: NamedSharding) -> Any:
    return jax.jit(lambda x: x, out_shardings=whole)


def _laid(array: Any, whole: NamedSharding) -> Any:
    if isinstance(array, jax.Array) and array.sharding.device_set == whole.device_set:
        return _spread(whole)(array)
    array = jnp.asarray(array)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_laid(jax.random.key_data(array), whole))
    values = np.asarray(array)
    return jax.make_array_from_callback(values.shape, whole, lambda index: values[index])


ANY = Devices()
