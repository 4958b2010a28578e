"""The devices that make clips together: none in particular, or those of a mesh.

On a mesh the parameters are cut up as in training. Rows, and the estimates that guidance makes of
each, are dealt out along its data and fsdp axes, the tokens of a clip along its sequence axis, and
pictures, for the autoencoder, in bands of rows among all. What a model is asked comes to every
device, and what it makes to every process.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from sora_jax.parallel.mesh import Mesh


class Devices:
    """The devices of a mesh; without one, whatever JAX takes by itself.

    Raises MeshError if the mesh does not fit the devices that there are.
    """

    def __init__(self, mesh: Mesh | None = None):
        self.mesh = mesh
        self._built = None if mesh is None else mesh.build()

    def __bool__(self) -> bool:
        """Whether there is a mesh."""
        return self._built is not None

    def use(self) -> contextlib.AbstractContextManager[None]:
        """What runs within this is laid out over the mesh."""
        if self.mesh is None or self._built is None:
            return contextlib.nullcontext()
        return self.mesh.use(self._built)

    def use_for_pictures(self) -> contextlib.AbstractContextManager[None]:
        """The same for the autoencoder, whose pictures are cut into bands."""
        if self.mesh is None or self._built is None:
            return contextlib.nullcontext()
        rules = dataclasses.replace(
            self.mesh.rules, batch=None, height=("slices", "data", "fsdp", "sequence", "tensor")
        )
        return dataclasses.replace(self.mesh, rules=rules).use(self._built)

    def shardings(self, boxed: Any) -> Any:
        """Returns where each parameter lies, of an abstract tree with its axis names."""
        assert self.mesh is not None and self._built is not None
        return self.mesh.shardings(boxed, self._built)

    def everywhere(self, tree: Any) -> Any:
        """Returns arrays that every process has alike, or that lie on the mesh, as every device and
        so every process has them."""
        if self._built is None:
            return tree
        whole = NamedSharding(self._built, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.device_put(leaf, whole), tree)


ANY = Devices()
