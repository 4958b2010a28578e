"""Promises of meshes and rules."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from sora_jax.parallel.mesh import Mesh, MeshError
from sora_jax.parallel.rules import Rules


def test_one_axis_takes_what_is_left():
    mesh = Mesh(fsdp=2, tensor=2).build()
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}


def test_a_mesh_that_does_not_fit_is_refused():
    for wrong in (Mesh(fsdp=3), Mesh(data=4), Mesh(data=-1, fsdp=-1)):
        with pytest.raises(MeshError, match="does not fit 8 devices"):
            wrong.build()


def test_parameters_are_cut_by_rule_where_they_divide():
    mesh = Mesh(fsdp=2, tensor=2)
    devices = mesh.build()
    tree = {
        "q": nn.LogicallyPartitioned(jnp.zeros((8, 4, 16)), ("embed", "heads", "head_dim")),
        "odd": nn.LogicallyPartitioned(jnp.zeros((7, 4)), ("embed", "heads")),
        "plain": jnp.zeros(3),
    }
    specs = jax.tree.map(lambda sharding: sharding.spec, mesh.shardings(tree, devices))
    assert specs["q"] == PartitionSpec("fsdp", "tensor", None)
    assert specs["odd"] == PartitionSpec(None, "tensor")
    assert specs["plain"] == PartitionSpec(None)


def test_a_misspelt_dimension_cannot_be_looked_up():
    with pytest.raises(TypeError, match="embedd"):
        Rules(embedd="fsdp")  # pyright: ignore[reportCallIssue]
