"""The linear code of blocks: an orthonormal basis, the strongest first; chunks equal the whole."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.models.transform import (
    DEVIATION,
    BlockTransform,
    blocks_of,
    cosine_atoms,
    pixels_of,
)

BLOCK = Size(2, 4, 4)


def clip(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (2, frames, 8, 12, 3)).astype(np.float32)


def coded(features: int, method: str, x: Any, *, first: bool) -> np.ndarray:
    """Pixels from or to codes, by way of blocks."""
    model = BlockTransform(BLOCK, features)
    start = blocks_of(jnp.asarray(clip(1)), BLOCK, first=True)
    params = model.init(jax.random.key(0), start, method="analyse")
    if method == "analyse":
        blocks = blocks_of(jnp.asarray(x), BLOCK, first=first)
        return np.asarray(model.apply(params, blocks, method=method))
    blocks: Any = model.apply(params, jnp.asarray(x), method=method)
    return np.asarray(pixels_of(blocks, BLOCK, first=first))


def test_atoms_are_orthonormal_and_the_strongest_come_first() -> None:
    atoms, deviations = cosine_atoms(BLOCK, 96)
    np.testing.assert_allclose(atoms.T @ atoms, np.eye(96), atol=1e-12)
    assert np.all(np.diff(deviations) <= 0)
    # All of them together have the variance of the pixels.
    assert np.sum(deviations**2) == pytest.approx(96 * DEVIATION**2)
    np.testing.assert_allclose(atoms[:, 0], 1 / np.sqrt(96))  # the mean


def test_each_number_has_a_like_share_of_every_component() -> None:
    """On a Markov field, of which the code is the Karhunen-Loeve transform mixed."""
    model = BlockTransform(BLOCK, 16)
    blocks = jnp.zeros((1, 1, 1, 1, 96))
    kernels = nn.meta.unbox(model.init(jax.random.key(0), blocks, method="analyse")["params"])
    atoms, deviations = cosine_atoms(BLOCK, 16)
    # The deviation of each number, from those of the components that it is made of.
    shares = (kernels["analysis"].T @ atoms) * deviations
    spread = np.sqrt(np.sum(np.square(shares), axis=1))
    assert np.mean(spread**2) == pytest.approx(1, rel=1e-4)
    assert 0.8 < spread.min() < spread.max() < 1.3
    product = np.asarray(kernels["synthesis"] @ kernels["analysis"])
    np.testing.assert_allclose(product, np.eye(16), atol=1e-5)


def test_all_atoms_give_back_the_clip() -> None:
    video = clip(5)
    latent = coded(96, "analyse", video, first=True)
    assert latent.shape == (2, 3, 2, 3, 96)
    np.testing.assert_allclose(coded(96, "synthesise", latent, first=True), video, atol=1e-5)


def test_fewer_atoms_give_the_nearest_clip_that_they_can() -> None:
    video = clip(5)
    copies = [
        coded(n, "synthesise", coded(n, "analyse", video, first=True), first=True)
        for n in (4, 16, 64)
    ]
    errors = [np.mean((copy - video) ** 2) for copy in copies]
    assert errors[0] > errors[1] > errors[2] > 0


def test_chunks_equal_the_whole() -> None:
    video = clip(5)
    latent = coded(16, "analyse", video, first=True)
    parts = [
        coded(16, "analyse", video[:, :1], first=True),
        coded(16, "analyse", video[:, 1:], first=False),
    ]
    np.testing.assert_allclose(np.concatenate(parts, 1), latent, rtol=1e-6)
    whole = coded(16, "synthesise", latent, first=True)
    parts = [
        coded(16, "synthesise", latent[:, :2], first=True),
        coded(16, "synthesise", latent[:, 2:], first=False),
    ]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=1e-6)
