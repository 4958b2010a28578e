"""Promises of choosing captions and of turning them into integers."""

from __future__ import annotations

import collections
import difflib

import numpy as np
import pytest

from sora_jax.data.captions import Bytes, Labels, choose, misspelt
from sora_jax.data.datasets import Caption, Record


def _record(*captions: Caption) -> Record:
    return Record(name="clip", frames=1, height=8, width=8, fps=0.0, captions=captions)


BOTH = _record(Caption(text="a"), Caption(text="b"), Caption(text="long", kind="descriptive"))


def _chosen(record: Record, share: float, draws: int = 400) -> collections.Counter[str]:
    rng = np.random.default_rng(0)
    return collections.Counter(choose(record, rng, descriptive_share=share) for _ in range(draws))


def test_descriptive_captions_are_chosen_as_often_as_asked() -> None:
    assert set(_chosen(BOTH, 1.0)) == {"long"}
    assert set(_chosen(BOTH, 0.0)) == {"a", "b"}
    counts = _chosen(BOTH, 0.75)
    assert 260 < counts["long"] < 340
    assert abs(counts["a"] - counts["b"]) < 40


def test_a_kind_that_is_missing_is_replaced_by_the_other_and_none_by_nothing() -> None:
    assert set(_chosen(_record(Caption(text="a")), 1.0)) == {"a"}
    assert set(_chosen(_record(Caption(text="l", kind="descriptive")), 0.0)) == {"l"}
    assert set(_chosen(_record(), 0.5)) == {""}


def test_the_choice_depends_on_nothing_but_the_generator() -> None:
    first, second = (np.random.default_rng(7) for _ in range(2))
    chosen = [choose(BOTH, first) for _ in range(20)]
    assert chosen == [choose(BOTH, second) for _ in range(20)]


def test_some_captions_get_typing_errors_and_stay_alike() -> None:
    rng = np.random.default_rng(0)
    record = _record(Caption(text="a red circle moves left over a green field"))
    drawn = [choose(record, rng, misspelt_share=0.25) for _ in range(400)]
    wrong = [text for text in drawn if text != record.captions[0].text]
    assert 60 < len(wrong) < 140
    for text in wrong:
        assert difflib.SequenceMatcher(None, text, record.captions[0].text).ratio() > 0.9
    assert len(set(wrong)) > 50
    assert misspelt("", rng) == "" and len(misspelt("a", rng)) <= 2


def test_bytes_begin_with_a_mark_and_are_padded() -> None:
    text = Bytes(length=6).tokens(["hé", ""])
    np.testing.assert_array_equal(
        text.tokens, [[256, 104, 195, 169, 257, 257], [256, 257, 257, 257, 257, 257]]
    )
    np.testing.assert_array_equal(text.length, [4, 1])
    assert text.tokens.dtype == text.length.dtype == np.int32
    assert Bytes(length=6).tokens([]).tokens.shape == (0, 6)


def test_a_caption_that_is_too_long_loses_whole_characters_and_is_counted() -> None:
    tokenizer = Bytes(length=4)
    texts = ["abc", "abcd", "aéé"]
    text = tokenizer.tokens(texts)
    np.testing.assert_array_equal(text.length, [4, 4, 4])
    np.testing.assert_array_equal(tokenizer.tokens(["abé"]).length, [3])
    assert tokenizer.truncated(texts) == 2
    assert text.tokens.max() < tokenizer.vocabulary


def test_any_text_has_tokens() -> None:
    assert Bytes(length=16).tokens(["\ud800 \x00 \U0001f600"]).length[0] > 1


def test_labels_are_their_places_and_the_empty_caption_is_the_null_label() -> None:
    labels = Labels(names=("cat", "dog"))
    text = labels.tokens(["dog", "", "cat"])
    np.testing.assert_array_equal(text.tokens, [[1], [2], [0]])
    np.testing.assert_array_equal(text.length, [1, 1, 1])
    with pytest.raises(ValueError, match=r"'dgo' is not one of the 2 labels.*'dog'"):
        labels.tokens(["dgo"])


def test_without_labels_every_caption_is_the_null_label() -> None:
    np.testing.assert_array_equal(Labels().tokens(["anything", ""]).tokens, [[0], [0]])
