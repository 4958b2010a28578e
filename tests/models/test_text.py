"""What text encoders promise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import text as module
from sora_jax.models.text import BEGIN, PAD, ByteEncoder, LabelEncoder, WordEncoder

BYTES = ByteEncoder(width=16, depth=2, heads=2, length=12)
WORDS = WordEncoder(width=16, depth=2, heads=2, length=12)


@pytest.fixture(scope="module")
def variables() -> dict:
    return jax.jit(BYTES.init)(jax.random.key(0), *BYTES.null(1))


@pytest.fixture(scope="module")
def words() -> dict:
    return jax.jit(WORDS.init)(jax.random.key(0), *WORDS.null(1))


def test_features_do_not_depend_on_what_follows_a_text(variables: dict) -> None:
    tokens = jnp.array([[BEGIN, *b"red ball", PAD, PAD, PAD]])
    encode = jax.jit(BYTES.apply)
    features, _ = encode(variables, tokens, jnp.array([9]))
    garbage, _ = encode(variables, tokens.at[:, 9:].set(-7), jnp.array([9]))
    short, _ = BYTES.apply(variables, tokens[:, :9], jnp.array([9]))
    np.testing.assert_array_equal(features, garbage)
    np.testing.assert_allclose(features[:, :9], short, atol=1e-5)
    assert (features[:, 9:] == 0).all()


apply = jax.jit(WORDS.apply)


def encoded(variables: Any, text: str, *, places: int | None = None) -> np.ndarray:
    """The valid features of a text, in so many places, or as many as it needs."""
    model, length = WORDS, 1 + len(text.encode())
    padding = [PAD] * ((places or length) - length)
    tokens = jnp.array([[BEGIN, *text.encode(), *padding]])
    features, count = apply(variables, tokens, jnp.array([length]))
    assert features.shape[1] == model.positions(tokens.shape[1])
    assert (features[:, int(count[0]) :] == 0).all()
    return np.asarray(features)[0, : int(count[0])]


def test_a_word_encoder_has_a_feature_for_each_word_whatever_follows(words: dict) -> None:
    for text, count in (("", 1), ("a", 2), ("red ball", 3), (" two  spaces ", 3), ("x" * 40, 4)):
        short = encoded(words, text, places=48)
        assert len(short) == count
        np.testing.assert_allclose(encoded(words, text, places=72), short, atol=1e-5)
    tokens = jnp.array([[BEGIN, *b"red ball", *b"junk", *[PAD] * 35]])
    garbage, _ = apply(words, tokens, jnp.array([9]))
    clean = encoded(words, "red ball", places=48)
    np.testing.assert_allclose(garbage[0, :3], clean, atol=1e-5)


def test_a_word_is_read_alike_wherever_it_stands_and_every_byte_of_it(
    words: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What enters the layers, in which words look at one another.
    monkeypatch.setattr(module, "_layers", lambda encoder, x, count: (x, count))

    def word(text: str, number: int) -> np.ndarray:
        tokens = jnp.array([[BEGIN, *text.encode(), *[PAD] * (40 - len(text))]])
        features: Any = WORDS.apply(words, tokens, jnp.array([1 + len(text)]))
        return np.asarray(features[0])[0, number]

    here = word("red circle", 2)
    np.testing.assert_allclose(word("a tiny blue circle goes", 4), here, atol=1e-5)
    assert np.abs(word("red circl3", 2) - here).max() > 1e-3
    assert np.abs(word("red elcric", 2) - here).max() > 1e-3
    # One letter changes a long word less than another word does.
    wrong, other = word("red circke", 2), word("red square", 2)
    assert np.linalg.norm(wrong - here) < 0.7 * np.linalg.norm(other - here)


def test_words_beyond_the_last_place_share_it(words: dict) -> None:
    text = "a b c d e f g h"
    assert len(encoded(words, text)) == WORDS.positions(1 + len(text)) == 4
    changed = encoded(words, text[:-1] + "z")
    assert np.abs(changed[-1] - encoded(words, text)[-1]).max() > 1e-3


def test_order_of_bytes_matters(variables: dict) -> None:
    one, other = (
        BYTES.apply(variables, jnp.array([[BEGIN, *text]]), jnp.array([4]))[0]
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
    features, _ = model.apply(variables, every, jnp.ones(classes + 1, jnp.int32))
    assert features.shape == (classes + 1, 1, 8)
    assert len(np.unique(np.asarray(features)[:, 0], axis=0)) == classes + 1
    np.testing.assert_array_equal(model.apply(variables, *null)[0][0], features[-1])
