"""Promises of the world of cuts: one figure through all its shots, and each shot is another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sora_jax.data.worlds.cuts import Cuts, State, identity
from sora_jax.data.worlds.cuts_scene import (
    ATTRIBUTES,
    EYE,
    HATS,
    LEAST_FRAMES,
    SIZES,
    Figure,
    Scene,
    Shot,
)
from sora_jax.data.worlds.palette import COLOURS, PLACES, contrast
from sora_jax.data.worlds.shapes import KINDS
from sora_jax.data.worlds.world import Setting, World, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Cuts()


def agreement(truth: State, read: State) -> list[bool]:
    """Of each discrete field whether it is read right."""
    right = [*(read.place == truth.place), *(read.shot == truth.shot)]
    return [*right, *(read.attributes == truth.attributes).ravel()]


def test_reading_gives_back_the_state() -> None:
    assert isinstance(WORLD, World)
    for scene, times, size in scenes(WORLD, 60, frames=9):
        truth, read = read_back(WORLD, scene, times, size)
        assert all(agreement(truth, read))
        assert far(read.centre, truth.centre) < 0.5


def test_reading_is_hardly_harmed_by_blur_and_noise() -> None:
    rng, right = stream(7), []
    for scene, times, size in scenes(WORLD, 30, frames=9):
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), rng))
        right += agreement(WORLD.truth(scene, times, **size), read)
    assert np.mean(right) > 0.97


def test_of_an_empty_picture_nothing_is_read() -> None:
    frames = np.full((2, 48, 48, 3), PLACES["road"], np.uint8)
    read = WORLD.read(frames)
    assert (read.attributes == -1).all() and np.isnan(read.centre).all()
    assert (read.shot == 0).all() and (read.place == list(PLACES).index("road")).all()


def test_every_shot_is_elsewhere_moves_otherwise_and_is_long_enough() -> None:
    for frames in (6, 9, 17, 33):
        counts = set()
        for scene, times, size in scenes(WORLD, 90, frames=frames):
            counts.add(len(scene.shots))
            truth = WORLD.truth(scene, times, **size)
            assert np.bincount(truth.shot).min() >= LEAST_FRAMES
            assert truth.shot.max() + 1 == len(scene.shots)
            for before, after in itertools.pairwise(scene.shots):
                assert before.place != after.place and before.motion != after.motion
                cut = np.array([after.begin])
                assert np.abs(before.at(cut) - after.at(cut)).max() >= 0.12
        assert counts == {*range(2, min(4, frames // LEAST_FRAMES) + 1)}


@pytest.mark.parametrize("frames", [1, 5])
def test_what_is_too_short_for_two_shots_has_one(frames: int) -> None:
    for scene, times, size in scenes(WORLD, 20, frames=frames):
        assert len(scene.shots) == 1
        assert np.isnan(identity(WORLD.truth(scene, times, **size)))


def test_the_figure_stays_the_same_and_within_the_picture() -> None:
    for scene, times, size in scenes(WORLD, 90):
        truth, side = WORLD.truth(scene, times, **size), min(size.values())
        assert identity(truth) == 1
        assert (truth.attributes == scene.figure.attributes).all()
        above, below, beside = (each * side - 1e-6 for each in scene.figure.reach)
        down, across = truth.centre.T
        assert (down >= above).all() and (down <= size["height"] - below).all()
        assert (across >= beside).all() and (across <= size["width"] - beside).all()
        assert all(shot.speed / 8 <= 0.08 for shot in scene.shots)


def test_what_carries_meaning_is_five_pixels_wide_in_a_picture_of_48() -> None:
    assert 2 * EYE * min(SIZES.values()) * 48 > 4.8


def test_identity_is_the_share_of_attributes_that_outlast_the_cut() -> None:
    attributes = np.array([[0, 1, 0, 2, 3, 4]] * 4 + [[0, 1, 1, 2, 3, 5]] * 4)
    attributes[1] = -1
    state = State(
        place=np.repeat([0, 1], 4),
        shot=np.repeat([0, 1], 4),
        attributes=attributes,
        centre=np.zeros((8, 2)),
    )
    assert identity(state) == pytest.approx(4 / 6)
    attributes[4:, 0] = attributes[:4, 0] = -1
    assert identity(state) == pytest.approx(3 / 6)


def test_figures_are_varied_and_stand_out_from_their_places() -> None:
    drawn = [scene for scene, _, _ in scenes(WORLD, 200)]
    values = np.stack([scene.figure.attributes for scene in drawn]).T
    tables = (KINDS, COLOURS, SIZES, HATS, COLOURS, COLOURS)
    assert len(ATTRIBUTES) == len(tables)
    for each, table in zip(values, tables, strict=True):
        assert {*each.tolist()} == {*range(len(table))}
    assert {shot.place for scene in drawn for shot in scene.shots} == {*PLACES}
    for scene in drawn:
        figure = scene.figure
        assert len({figure.colour, figure.hat_colour, figure.eye_colour}) == 3
        for shot in scene.shots:
            assert contrast(figure.colour, shot.place) >= 100
            assert contrast(figure.hat_colour, shot.place) >= 100


def test_a_picture_depends_on_its_time_alone() -> None:
    for scene, times, size in scenes(WORLD, 6):
        pictures = WORLD.render(scene, times, **size)
        np.testing.assert_array_equal(WORLD.render(scene, times[::-2], **size), pictures[::-2])


@pytest.mark.parametrize("frames", [1, 5, 17, 33])
def test_captions_are_true_varied_and_short_enough(frames: int) -> None:
    words = {
        "field": "grass|field",
        "sea": "sea|water",
        "road": "road|asphalt",
        "snow": "snow",
        "night": "night",
        "sand": "sand",
    }
    shorts = set()
    for index, (scene, _, _) in enumerate(scenes(WORLD, 90, frames=frames)):
        short, long = WORLD.captions(scene, stream(3, index))
        shorts.add(short.text)
        assert short.text.isascii() and len(short.text) < 130
        assert long.text.isascii() and len(long.text) < 400
        figure = scene.figure
        assert f"{figure.size} {figure.colour} {figure.body}".lower() in long.text.lower()
        assert f"{figure.hat_colour} " in long.text and f"{figure.eye_colour} eye" in long.text
        parts = long.text.lower().split("over ")[1:]
        assert len(parts) == len(scene.shots)
        for part, shot in zip(parts, scene.shots, strict=True):
            assert any(word in part for word in words[shot.place].split("|"))
        if frames == 1:
            assert "moves" not in long.text and "still" not in long.text
    assert len(shorts) > 75


def test_captions_of_one_scene_leave_different_things_out() -> None:
    figure = Figure(
        body="cross",
        colour="blue",
        size="large",
        hat="triangle",
        hat_colour="red",
        eye_colour="white",
    )
    setting = Setting.of(height=64, width=64, seconds=2.0)
    shots = tuple(
        Shot(place=place, begin=begin, motion="left", start=(0.6, 0.6), speed=0.2)
        for place, begin in (("snow", 0.0), ("road", 0.9375))
    )
    scene = Scene(setting=setting, figure=figure, shots=shots)
    texts = [WORLD.captions(scene, stream(4, index))[0].text for index in range(200)]
    for word in ("blue", "cross", "large", "pointed", "red", "white", "over snow, then a road"):
        assert 100 < sum(word in text for text in texts) < 200
