"""What patches promise."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.models.patches import (
    every,
    largest,
    patchify,
    token_extent,
    token_grid,
    unpatchify,
)

PATCHES = [(1, 1, 1), (1, 2, 2), (2, 2, 2), (3, 1, 2)]


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("size", [(1, 2, 2), (3, 5, 7), (4, 6, 8)])
def test_unpatchify_undoes_patchify(size: tuple[int, int, int], patch) -> None:
    latent = jnp.asarray(np.random.default_rng(0).standard_normal((2, *size, 3)), jnp.float32)
    tokens = patchify(latent, patch)
    assert tokens.shape[1] == np.prod(token_grid(size, patch))
    np.testing.assert_array_equal(unpatchify(tokens, Size(*size), patch=patch), latent)


def test_channels_are_fastest_within_a_patch() -> None:
    latent = jnp.arange(1 * 2 * 4 * 3, dtype=jnp.float32).reshape(1, 1, 2, 4, 3)
    first = patchify(latent, (1, 2, 2))[0, 0].reshape(2, 2, 3)
    np.testing.assert_array_equal(first, latent[0, 0, :2, :2])


def test_token_is_valid_if_any_of_its_latents_is() -> None:
    extent = token_extent(jnp.array([[3, 5, 8], [1, 1, 1], [0, 0, 0]]), (1, 2, 2))
    np.testing.assert_array_equal(extent, [[3, 3, 4], [1, 1, 1], [0, 0, 0]])


def test_patch_is_as_noisy_as_its_noisiest_place() -> None:
    sigma = jnp.array([[0.1, 0.9, 0.3], [0.2, 0.4, 0.5]])[None, None]
    np.testing.assert_allclose(largest(sigma, (1, 2, 2)), np.array([0.9, 0.5]).reshape(1, 1, 1, 2))


def test_patch_is_known_if_all_of_its_places_are() -> None:
    known = jnp.array([[True, True, True], [False, True, True]])[None, None]
    np.testing.assert_array_equal(
        every(known, (1, 2, 2)), np.array([False, True]).reshape(1, 1, 1, 2)
    )


def test_axes_of_size_one_stand_for_all_places() -> None:
    sigma = jnp.array([0.2, 0.7, 0.4])[None, :, None, None]
    np.testing.assert_array_equal(largest(sigma, (1, 2, 2)), sigma)
    assert largest(sigma, (2, 2, 2)).shape == (1, 2, 1, 1)
