"""What text encoders promise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models.text import BEGIN, PAD, ByteEncoder, LabelEncoder

BYTES = ByteEncoder(width=16, depth=2, heads=2, length=12)


@pytest.fixture(scope="module")
def variables() -> dict:
    return jax.jit(BYTES.init)(jax.random.key(0), *BYTES.null(1))


def test_features_do_not_depend_on_what_follows_a_text(variables: dict) -> None:
    tokens = jnp.array([[BEGIN, *b"red ball", PAD, PAD, PAD]])
    encode = jax.jit(BYTES.apply)
    features = encode(variables, tokens, jnp.array([9]))
    garbage = encode(variables, tokens.at[:, 9:].set(-7), jnp.array([9]))
    short = BYTES.apply(variables, tokens[:, :9], jnp.array([9]))
    np.testing.assert_array_equal(features, garbage)
    np.testing.assert_allclose(features[:, :9], short, atol=1e-5)
    assert (features[:, 9:] == 0).all()


def test_strided_features_do_not_depend_on_what_follows_a_text() -> None:
    model = BYTES.clone(stride=4)
    variables = jax.jit(model.init)(jax.random.key(0), *BYTES.null(1))
    tokens = jnp.array([[BEGIN, *b"red bal", PAD, PAD, PAD]])
    for length in (1, 4, 5, 8):
        features = model.apply(variables, tokens, jnp.array([length]))
        positions = int(model.positions(jnp.array([length]))[0])
        assert features.shape == (1, 3, 16) and positions == -(-length // 4)
        garbage = model.apply(variables, tokens.at[:, length:].set(-7), jnp.array([length]))
        short = model.apply(variables, tokens[:, :length], jnp.array([length]))
        np.testing.assert_array_equal(features, garbage)
        np.testing.assert_allclose(features[:, :positions], short, atol=1e-5)
        assert (features[:, positions:] == 0).all()
    # Every byte is seen.
    change = model.apply(variables, tokens.at[0, 6].set(7), jnp.array([8]))
    assert np.abs(change - features).max() > 1e-3


def test_order_of_bytes_matters(variables: dict) -> None:
    one, other = (
        BYTES.apply(variables, jnp.array([[BEGIN, *text]]), jnp.array([4]))
        for text in (b"abc", b"cba")
    )
    assert np.abs(one[:, 0] - other[:, 0]).max() > 1e-3


def test_null_caption_is_its_beginning_mark() -> None:
    tokens, length = BYTES.null(3)
    assert tokens.shape == (3, 12)
    assert (tokens[:, 0] == BEGIN).all() and (tokens[:, 1:] == PAD).all()
    assert (length == 1).all()


@pytest.mark.parametrize("classes", [0, 3])
def test_labels_have_a_feature_each_and_one_for_none(classes: int) -> None:
    model = LabelEncoder(classes=classes, width=8)
    null = model.null(2)
    variables = model.init(jax.random.key(0), *null)
    every = jnp.arange(classes + 1)[:, None]
    features = model.apply(variables, every, jnp.ones(classes + 1, jnp.int32))
    assert features.shape == (classes + 1, 1, 8)
    assert len(np.unique(np.asarray(features)[:, 0], axis=0)) == classes + 1
    np.testing.assert_array_equal(model.apply(variables, *null)[0], features[-1])
