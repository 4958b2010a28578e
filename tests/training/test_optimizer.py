"""Promises of the optimisers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax.models.dit import DiT
from sora_jax.parallel.mesh import Mesh, unboxed
from sora_jax.training.optimizer import AdamW, Constant


def test_muon_makes_the_updates_of_stacked_kernels_orthogonal_and_leaves_the_rest_to_adamw() -> (
    None
):
    params = {
        "layers": {"mlp": {"kernel": jnp.ones((3, 4, 8)), "bias": jnp.zeros((3, 8))}},
        "head": {"kernel": jnp.ones((8, 2))},
    }
    keys = jax.random.split(jax.random.key(0), 3)
    leaves, tree = jax.tree.flatten(params)
    gradient = tree.unflatten(
        [jax.random.normal(key, x.shape) for key, x in zip(keys, leaves, strict=True)]
    )
    settings = {"learning_rate": 1e-2, "warmup": 0, "schedule": Constant(), "weight_decay": 0.0}
    updates = {}
    for muon in (None, 2.0):
        optimizer = AdamW(muon=muon, **settings).build(10)
        updates[muon], _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_array_equal(
        updates[2.0]["layers"]["mlp"]["bias"], updates[None]["layers"]["mlp"]["bias"]
    )
    np.testing.assert_array_equal(updates[2.0]["head"]["kernel"], updates[None]["head"]["kernel"])
    kernel = updates[2.0]["layers"]["mlp"]["kernel"]
    for layer, raw in zip(kernel, gradient["layers"]["mlp"]["kernel"], strict=True):
        own, given = np.linalg.svd(layer)[1], np.linalg.svd(raw)[1]
        # Of nearly equal singular values, which those of the gradient are not.
        assert own.max() / own.min() < 2 < given.max() / given.min()
        assert np.sum(layer * raw) < 0
    assert 0.2e-2 < np.sqrt(np.mean(kernel**2)) < 0.6e-2  # two fifths of the rate


def test_muon_needs_a_factor_above_zero() -> None:
    with pytest.raises(ValueError, match="muon is 0"):
        AdamW(muon=0.0)


@pytest.mark.parametrize("optimizer", [AdamW(muon=1.0), AdamW(moments="factored")], ids=str)
def test_moments_are_laid_out_like_what_they_are_of(optimizer: AdamW) -> None:
    # Wide enough that the moments of matrices are factored.
    model = DiT(width=128, depth=2, heads=2, mlp=256, latent_channels=4, text_width=8)
    latent, text = jnp.zeros((1, 1, 2, 2, 4)), jnp.zeros((1, 2, 8))

    def make():
        length = jnp.ones(1, int)
        params = model.init(jax.random.key(0), latent, jnp.ones((1, 1, 1, 1)), text, length)
        return optimizer.build(10).init(params["params"])

    boxed, mesh = jax.eval_shape(make), Mesh(devices=1)
    shardings = mesh.shardings(boxed, mesh.build())
    assert jax.tree.structure(shardings) == jax.tree.structure(unboxed(boxed))
    arrays, places = jax.tree.leaves(unboxed(boxed)), jax.tree.leaves(shardings)
    assert all(len(place.spec) <= array.ndim for array, place in zip(arrays, places, strict=True))
    assert any(
        array.ndim > 1 and any(place.spec) for array, place in zip(arrays, places, strict=True)
    )


@pytest.mark.parametrize(("moments", "share"), [("bfloat16", 0.75), ("factored", 0.26)])
def test_moments_take_less_memory_and_still_lead_downhill(moments: Any, share: float) -> None:
    target = jax.random.normal(jax.random.key(0), (2, 256, 192)) * jnp.arange(1, 3)[:, None, None]
    params = {"layers": {"kernel": jnp.zeros_like(target), "bias": jnp.ones((2, 192))}}

    def loss(params: Any) -> Any:
        layers = params["layers"]
        return jnp.mean((layers["kernel"] - target) ** 2) + jnp.mean(layers["bias"] ** 2)

    def trained(moments: Any) -> tuple[float, int]:
        settings = AdamW(learning_rate=0.1, moments=moments, weight_decay=0.0)
        optimizer = settings.build(100)

        @jax.jit
        def step(params: Any, state: Any) -> Any:
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        now, state = params, optimizer.init(params)
        for _ in range(100):
            now, state = step(now, state)
        return float(loss(now)), sum(leaf.nbytes for leaf in jax.tree.leaves(state))

    (plain, whole), (other, kept) = trained("float32"), trained(moments)
    assert kept == pytest.approx(share * whole, rel=0.03)
    assert other < 2 * plain < 0.02 * float(loss(params))
