"""What embeddings of time and place promise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.models.embeddings import (
    TimeEmbedding,
    feature_count,
    places,
    rotary,
    rotate,
    sinusoids,
    split,
)


def test_sinusoids_are_those_of_a_thousand_times_the_time() -> None:
    time = jnp.array([[0.0, 0.25], [0.5, 1.0]])
    frequencies = 10_000.0 ** (-np.arange(128) / 128)
    angles = 1000.0 * np.asarray(time, np.float64)[..., None] * frequencies
    exact = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_allclose(sinusoids(time), exact, atol=1e-4)


def test_time_embedding_keeps_the_places_apart() -> None:
    model, time = TimeEmbedding(8), jnp.array([0.1, 0.1, 0.9]).reshape(1, 3, 1, 1)
    out, _ = model.init_with_output(jax.random.key(0), time)
    assert out.shape == (1, 3, 1, 1, 8)
    np.testing.assert_array_equal(out[0, 0], out[0, 1])
    assert np.abs(out[0, 0] - out[0, 2]).max() > 1e-3


@pytest.mark.parametrize("head_dim", [8, 12, 32, 64, 128])
def test_head_is_split_over_three_axes(head_dim: int) -> None:
    parts = split(head_dim)
    assert sum(parts) == head_dim
    assert all(part % 2 == 0 for part in parts)
    if head_dim == 128:
        assert parts == (44, 42, 42)


def test_rotation_keeps_lengths() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 24, 3, 12)), jnp.float32)
    turned = rotate(x, *rotary(Size(2, 3, 4), 12))
    np.testing.assert_allclose(
        jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(turned[:, 0], x[:, 0])


def test_products_depend_on_the_distance_alone() -> None:
    grid, random = Size(3, 4, 5), np.random.default_rng(0)
    query, key = (jnp.asarray(random.standard_normal(12), jnp.float32) for _ in range(2))
    everywhere = [jnp.broadcast_to(x, (1, 60, 1, 12)) for x in (query, key)]
    queries, keys = (rotate(x, *rotary(grid, 12))[0, :, 0].reshape(*grid, 12) for x in everywhere)
    for step in ((1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 1, 1)):
        near = queries[0, 0, 0] @ keys[step]
        far = queries[1, 1, 1] @ keys[tuple(1 + n for n in step)]
        np.testing.assert_allclose(near, far, atol=1e-5)
        assert abs(near - queries[0, 0, 0] @ keys[0, 0, 0]) > 1e-3


def test_places_are_fractions_of_each_clip_and_tell_its_tokens_apart() -> None:
    extent = jnp.array([[3, 4, 6], [1, 2, 3], [0, 0, 0]])
    found = np.asarray(places(extent, Size(3, 4, 6), 3)).reshape(3, 3, 4, 6, -1)
    assert found.shape[-1] == feature_count(3) and np.isfinite(found).all()
    whole, part = found[0], found[1, :1, :2, :3]
    assert len(np.unique(whole.reshape(72, -1).round(5), axis=0)) == 72
    np.testing.assert_allclose(
        part[..., -3:], np.broadcast_to(np.log2([1, 2, 3]), (*part.shape[:-1], 3)), atol=1e-6
    )
    # An image is a first frame; half as many columns have the places of every pair's middle.
    small = np.asarray(places(jnp.array([[1, 2, 3]]), Size(1, 2, 3), 3)).reshape(1, 2, 3, -1)
    np.testing.assert_allclose(part, small, atol=1e-6)
    first = {k: np.cos(np.pi * k * (np.arange(3) + 0.5) / 3) for k in range(3)}
    for k in range(3):
        np.testing.assert_allclose(part[0, 0, :, k], first[k], atol=1e-6)


def test_left_to_right_is_one_feature_and_not_a_riddle() -> None:
    """What moves right is on the left early and on the right late: a product of two axes."""
    features = np.asarray(places(jnp.array([[5, 1, 3]]), Size(5, 1, 3), 3))[0]
    moves = np.outer(np.linspace(1, -1, 5), [1, 0, -1]).ravel()
    moves /= np.linalg.norm(moves)
    lengths = np.linalg.norm(features, axis=0)
    assert np.abs(moves @ features / np.where(lengths > 0, lengths, 1)).max() > 0.95
