"""Promises of a domain: what is known is not strange, typing errors included."""

from __future__ import annotations

import pytest

from sora_jax.generation.domain import Domain, vocabulary

DOMAIN = Domain(about="shapes", words=vocabulary(["A red circle moves left", "Snow; a blue star."]))


def test_a_vocabulary_has_each_word_once_in_small_letters() -> None:
    assert DOMAIN.words == ("a", "blue", "circle", "left", "moves", "red", "snow", "star")
    assert vocabulary([]) == ()


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [
        ("a RED circle moves left", []),
        ("a red cirlce movs left", []),
        ("a man on the moon", ["man", "the", "moon"]),
        ("a dragon, a dragon of snow", ["dragon"]),
        ("", []),
        ("ein Drache über Schnee", ["ein", "drache", "über", "schnee"]),
    ],
)
def test_strange_are_the_words_that_no_caption_held(prompt: str, strange: list[str]) -> None:
    assert DOMAIN.strange(prompt) == strange


def test_nothing_is_strange_to_what_says_nothing_of_itself() -> None:
    assert Domain().strange("a dragon") == []
