"""Promises of the world of sprites: what is drawn is as said, and is read back."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over, contrast
from sora_jax.data.worlds.shapes import KINDS
from sora_jax.data.worlds.sprites import (
    MOTIONS,
    WAYS,
    Scene,
    Slots,
    Sprite,
    Sprites,
    held_out,
    short_caption,
)
from sora_jax.data.worlds.world import Setting, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Sprites()


def test_reading_gives_back_the_state() -> None:
    for scene, times, size in scenes(WORLD, 60, frames=5):
        truth, read = read_back(WORLD, scene, times, size)
        assert read.place == truth.place
        np.testing.assert_array_equal(read.visible, truth.visible)
        np.testing.assert_array_equal(read.kind, truth.kind)
        assert far(read.centre, truth.centre) < 0.5
        np.testing.assert_allclose(read.area, truth.area, rtol=0.06, atol=1)


def test_blur_and_noise_do_not_matter() -> None:
    for index, (scene, times, size) in enumerate(scenes(WORLD, 24, frames=5)):
        truth = WORLD.truth(scene, times, **size)
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), stream(2, index)))
        assert read.place == truth.place
        np.testing.assert_array_equal(read.visible, truth.visible)
        np.testing.assert_array_equal(read.kind, truth.kind)
        assert far(read.centre, truth.centre) < 0.5


def test_shapes_stay_within_the_picture_and_move_as_they_should() -> None:
    for scene, times, _ in scenes(WORLD, 60):
        setting = scene.setting
        for sprite in scene.sprites:
            way = sprite.at(times)
            assert (way >= sprite.radius - 1e-9).all()
            assert (way <= np.array([setting.height, setting.width]) - sprite.radius + 1e-9).all()
            np.testing.assert_array_equal(np.sign(way[-1] - way[0]), WAYS[sprite.motion])


# Scenes whose shapes would touch for a moment, if their ways were looked at nine times only.
@pytest.mark.parametrize("seed", [746, 1078, 2228, 2369, 2386])
def test_shapes_stay_apart_at_every_moment(seed: int) -> None:
    setting = Setting.of(height=64, width=112, seconds=4.0)
    scene = WORLD.scene(np.random.default_rng(seed), setting)
    times = np.linspace(0, setting.seconds, 400)
    for one, other in itertools.combinations(scene.sprites, 2):
        gaps = np.abs(one.at(times) - other.at(times)).max(1)
        assert gaps.min() > one.radius + other.radius


def test_a_fifth_of_the_combinations_is_held_out_and_every_pair_is_seen() -> None:
    combinations = list(itertools.product(KINDS, COLOURS, MOTIONS, PLACES))

    def out(kind: Any, colour: Any, motion: Any, place: Any) -> bool:
        still = {"radius": 0.1, "start": (0.0, 0.0), "speed": 0.0}
        return held_out(Sprite(kind=kind, colour=colour, motion=motion, **still), place)

    chosen = [each for each in combinations if out(*each)]
    assert len(chosen) * 5 == len(combinations)
    for a, b in itertools.combinations(range(4), 2):
        seen = {(each[a], each[b]) for each in combinations if not out(*each)}
        assert seen == {(each[a], each[b]) for each in combinations}


@pytest.mark.parametrize("wanted", [False, True])
def test_scenes_are_of_the_side_that_was_asked_for(wanted: bool) -> None:
    world, counts = Sprites(held_out=wanted), set()
    for scene, _, _ in scenes(world, 60):
        counts.add(len(scene.sprites))
        assert all(held_out(sprite, scene.place) == wanted for sprite in scene.sprites)
        assert all(contrast(sprite.colour, scene.place) >= 100 for sprite in scene.sprites)
    assert counts == {1, 2, 3}


@pytest.mark.parametrize("index", [582, 3168, 4144, 13439])
def test_where_bad_luck_would_end_all_tries_a_scene_is_found_all_the_same(index: int) -> None:
    # The random numbers of case `index` of the suite `text_held_out`; see `evaluation.suite`.
    setting = Setting.of(height=64, width=64, seconds=17 / 8)
    for world in (Sprites(held_out=True), Sprites(most=1, held_out=True)):
        scene = world.scene(stream(0, index, 3), setting)
        assert all(held_out(sprite, scene.place) for sprite in scene.sprites)


def test_every_colour_and_every_place_is_used() -> None:
    assert {colour for place in PLACES for colour in colours_over(place)} == {*COLOURS}
    drawn = [scene for scene, _, _ in scenes(WORLD, 200)]
    assert {scene.place for scene in drawn} == {*PLACES}
    assert {sprite.kind for scene in drawn for sprite in scene.sprites} == {*KINDS}


def test_any_slot_can_be_left_out() -> None:
    rng = stream(0)
    full = Slots(kind="circle", colour="red", motion="left", place="field")
    texts = {short_caption((full,), rng) for _ in range(200)}
    assert len(texts) > 20
    assert all("red" in text and "circle" in text and "left" in text for text in texts)
    assert "red" not in short_caption((Slots(kind="circle", motion="up"),), rng)
    assert "circle" not in short_caption((Slots(colour="red", motion="up"),), rng)
    assert short_caption((Slots(kind="circle", colour="red"),), rng) == "a red circle"


def test_short_captions_leave_slots_out_and_descriptive_ones_do_not() -> None:
    setting = Setting.of(height=64, width=64, seconds=2.0)
    sprite = Sprite(
        kind="square", colour="blue", motion="down", radius=0.2, start=(0.3, 0.5), speed=0.2
    )
    scene = Scene(setting=setting, place="snow", sprites=(sprite,))
    pairs = [WORLD.captions(scene, stream(1, index)) for index in range(100)]
    assert 50 < sum("blue" in short.text for short, _ in pairs) < 100
    for _, long in pairs:
        assert "large blue square" in long.text and "snow" in long.text
