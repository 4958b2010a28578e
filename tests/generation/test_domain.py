"""Promises of a domain: what is known is not strange, typing errors included."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.captions import misspelt
from sora_jax.data.worlds.source import Worlds
from sora_jax.generation.domain import Domain, vocabulary

DOMAIN = Domain(about="shapes", words=vocabulary(["A red circle moves left", "Snow; a blue star."]))


def test_a_vocabulary_has_each_word_once_in_small_letters() -> None:
    assert DOMAIN.words == ("a", "blue", "circle", "left", "moves", "red", "snow", "star")
    assert vocabulary([]) == ()


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [
        ("a RED circle moves left", []),
        ("a red cirlce moevs left", []),
        ("a man on the moon", ["man", "the", "moon"]),
        ("a dragon, a dragon of snow", ["dragon"]),
        ("", []),
        ("ein Drache über Schnee", ["ein", "drache", "über", "schnee"]),
    ],
)
def test_strange_are_the_words_that_no_caption_held(prompt: str, strange: list[str]) -> None:
    assert DOMAIN.strange(prompt) == strange


@functools.cache
def shipped() -> Domain:
    """What the model that comes with the package can be asked for, by captions like its own."""
    clips = Worlds(clips=300, sizes=(Size(17, 64, 64), Size(1, 64, 64)))
    return Domain(words=vocabulary(c.text for r in clips.open().records for c in r.captions))


@pytest.mark.parametrize(
    "prompt",
    [
        "a black cat",
        "a cat on the road",
        "a red car",
        "a dog",
        "a cat",
        "a tree",
        "a man",
        "a face",
        "fire",
        "she sings",
        "a whale",
        "猫",
        "собака",
    ],
)
def test_everyday_words_are_strange_to_worlds_of_shapes(prompt: str) -> None:
    assert shipped().strange(prompt)


def test_captions_are_not_strange_nor_often_those_with_typing_errors() -> None:
    domain, rng, found = shipped(), np.random.default_rng(0), []
    for record in Worlds(clips=100, seed=1).open().records:
        short = record.captions[0].text
        found.append((bool(domain.strange(short)), bool(domain.strange(misspelt(short, rng)))))
    plain, wrong = np.mean(found, axis=0)
    assert plain < 0.03 and wrong < 0.3


def test_a_known_word_may_stand_for_one_with_errors_among_other_known_ones() -> None:
    assert DOMAIN.strange("a rad star") == ["rad"] and DOMAIN.strange("a stra") == []
    assert DOMAIN.strange("a rad star moves left, blue snow") == []
    assert DOMAIN.strange("a tircle moves left") == ["tircle"]
    assert DOMAIN.strange("a blue tircle moves left, red") == []
    assert DOMAIN.strange("a red circel mvoes letf") == []
    assert DOMAIN.strange("a redcircle on snow moves leeft") == []


def test_nothing_is_strange_to_what_says_nothing_of_itself() -> None:
    assert Domain().strange("a dragon") == []


def test_sizes_far_beyond_those_of_clips_as_long_are_told_apart():
    small, long, image = Size(17, 64, 112), Size(33, 64, 64), Size(1, 128, 128)
    domain = Domain(sizes=(small, long, image))
    assert domain.frames == 33 and Domain().frames == 0
    assert domain.outgrown(Size(17, 128, 112)) == small
    assert domain.outgrown(Size(18, 90, 90)) is None
    assert domain.outgrown(Size(18, 91, 91)) == domain.outgrown(Size(500, 91, 91)) == long
    assert domain.outgrown(Size(1, 180, 180)) is None
    assert domain.outgrown(Size(1, 2048, 2048)) == image
    assert Domain().outgrown(Size(1, 2048, 2048)) is Domain().undercut(Size(1, 1, 1)) is None
    assert domain.undercut(Size(17, 32, 64)) == domain.undercut(Size(500, 1, 1)) == long
    assert domain.undercut(Size(17, 32, 65)) is domain.undercut(Size(1, 128, 128)) is None
