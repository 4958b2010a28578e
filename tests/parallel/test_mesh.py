"""Promises of meshes and rules."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.linen import spmd
from jax.sharding import PartitionSpec

from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.discriminator import PatchDiscriminator
from sora_jax.models.dit import DiT
from sora_jax.models.text import ByteEncoder, LabelEncoder, WordEncoder
from sora_jax.models.vae import VAE
from sora_jax.parallel.mesh import Mesh, MeshError, _laid_out
from sora_jax.parallel.rules import Rules


def test_one_axis_takes_what_is_left():
    mesh = Mesh(fsdp=2, tensor=2).build()
    assert dict(mesh.shape) == {
        "slices": 1,
        "data": 2,
        "fsdp": 2,
        "sequence": 1,
        "tensor": 2,
    }


def test_a_mesh_that_does_not_fit_is_refused():
    for wrong in (Mesh(fsdp=3), Mesh(data=4), Mesh(data=-1, fsdp=-1)):
        with pytest.raises(MeshError, match="does not fit 8 devices"):
            wrong.build()


def test_impossible_axes_are_named():
    wrongs: list[dict[str, Any]] = [
        *({"sequence": 0}, {"tensor": -2}, {"slices": 0}, {"devices": 0}, {"devices": -1})
    ]
    for wrong in wrongs:
        ((name, size),) = wrong.items()
        with pytest.raises(MeshError, match=rf"mesh\.{name} is {size}; give 1 or more"):
            Mesh(**wrong)
    with pytest.raises(MeshError, match=r"mesh\.devices is 100, and there are 8 devices"):
        Mesh(devices=100).build()


def test_parameters_are_cut_by_rule_where_they_divide():
    mesh = Mesh(fsdp=2, tensor=2)
    devices = mesh.build()
    tree = {
        "q": nn.LogicallyPartitioned(jnp.zeros((8, 4, 16)), ("embed", "heads", "head_dim")),
        "odd": nn.LogicallyPartitioned(jnp.zeros((7, 4)), ("embed", "heads")),
        "plain": jnp.zeros(3),
    }
    specs = jax.tree.map(lambda sharding: sharding.spec, mesh.shardings(tree, devices))
    assert specs["q"] == PartitionSpec(("fsdp", "sequence"), "tensor", None)
    assert specs["odd"] == PartitionSpec(None, "tensor")
    assert specs["plain"] == PartitionSpec(None)


def test_a_misspelt_dimension_cannot_be_looked_up():
    with pytest.raises(TypeError, match="embedd"):
        Rules(embedd="fsdp")  # pyright: ignore[reportCallIssue]


def test_every_dimension_that_a_model_names_has_a_rule(monkeypatch: pytest.MonkeyPatch):
    """Flax leaves a name without a rule unsharded in silence, so the names are listened to."""
    named: set[str] = set()
    looked_up = spmd._logical_to_mesh_axes

    def listening(names: Any, rules: Any = None) -> Any:
        named.update(name for name in names or () if isinstance(name, str))
        return looked_up(names, rules)

    monkeypatch.setattr(spmd, "_logical_to_mesh_axes", listening)
    clip, text = jnp.zeros((2, 5, 16, 16, 3)), jnp.zeros((2, 4), jnp.int32)
    latent, features, length = jnp.zeros((2, 1, 2, 2, 16)), jnp.zeros((2, 4, 8)), jnp.ones(2, int)
    dit = DiT(width=16, depth=1, heads=2, mlp=32, text_width=8)
    models = [
        (VAE(base=8), (clip,)),
        (BlockVAE(width=8, hidden=8), (clip,)),
        (PatchDiscriminator(width=4, levels=2), (clip,)),
        (dit, (latent, jnp.zeros((2, 1, 1, 1)), features, length)),
        (ByteEncoder(8, 1, 1), (text, length)),
        (WordEncoder(8, 1, 1), (text, length)),
        (LabelEncoder(3, 8), (text[:, :1], length)),
    ]
    mesh = Mesh(fsdp=2, tensor=2)
    with mesh.use(mesh.build()):
        for model, inputs in models:
            # Under jit, as the constraints of activations are looked up there.
            variables = jax.eval_shape(jax.jit(model.init), jax.random.key(0), *inputs)
            for leaf in jax.tree.leaves(variables, is_leaf=lambda x: isinstance(x, nn.Partitioned)):
                if isinstance(leaf, nn.Partitioned):
                    named.update(name for name in leaf.names if name is not None)
    assert {"embed", "channels_out", "channels", "tokens", "text_embed"} <= named
    assert named <= {field.name for field in dataclasses.fields(Rules)}


def test_gpus_of_several_hosts_make_one_mesh():
    gpus = [
        SimpleNamespace(platform="gpu", device_kind="H100", id=i, slice_index=i // 2)
        for i in range(8)
    ]
    laid = _laid_out((1, 1, 8, 1, 1), gpus)  # pyright: ignore[reportArgumentType]
    assert laid.shape == (1, 1, 8, 1, 1) and len({device.id for device in laid.flat}) == 8
