"""Promises of the world of the painter: what is painted stays, and is read back."""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.worlds.painter import Painter
from sora_jax.data.worlds.painter_seeing import Painted, interaction
from sora_jax.data.worlds.painter_strokes import BRUSH, KINDS, STROKE
from sora_jax.data.worlds.palette import COLOURS, PLACES, contrast
from sora_jax.data.worlds.world import World, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Painter()


def overlap(one: Painted, other: Painted) -> float:
    """The least IoU of the strokes of both, over frames and colours that have more than a dab."""
    both = (one.strokes & other.strokes).sum((2, 3))
    either = (one.strokes | other.strokes).sum((2, 3))
    dab = 0.02 * min(one.strokes.shape[2:]) ** 2
    return float(np.where(either > dab, both / np.maximum(either, 1), 1).min())


def test_it_is_a_world() -> None:
    assert isinstance(WORLD, World)


def test_reading_gives_back_the_state() -> None:
    for scene, times, size in scenes(WORLD, 60, frames=9):
        truth, read = read_back(WORLD, scene, times, size)
        assert read.place == truth.place
        np.testing.assert_array_equal(read.visible, truth.visible)
        np.testing.assert_array_equal(read.colour, truth.colour)
        assert far(read.centre, truth.centre) < 0.5
        assert overlap(read, truth) > 0.9
        np.testing.assert_allclose(read.area, truth.area, rtol=0.08, atol=8)


def test_reading_bears_blur_and_noise() -> None:
    right, least = [], []
    for index, (scene, times, size) in enumerate(scenes(WORLD, 20, frames=5, seed=1)):
        truth = WORLD.truth(scene, times, **size)
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), stream(2, index)))
        right += [read.place == truth.place, *(read.colour == truth.colour)]
        least.append(overlap(read, truth))
        assert far(read.centre, truth.centre) < 1
    assert np.mean(right) > 0.97
    assert np.median(least) > 0.9


def test_strokes_grow_and_never_vanish() -> None:
    for scene, times, size in scenes(WORLD, 40):
        measured = interaction(WORLD.truth(scene, times, **size))
        assert measured.persistence == 1 or np.isnan(measured.persistence)
        assert np.nan_to_num(measured.vanished) == 0
        assert np.nan_to_num(measured.phantom) == 0
        assert measured.creation == 1 or np.isnan(measured.creation)


def test_measured_on_pictures_of_the_world_it_is_nearly_as_perfect() -> None:
    found = []
    for scene, times, size in scenes(WORLD, 9, seed=2):
        measured = interaction(WORLD.read(WORLD.render(scene, times, **size)))
        found.append(dataclasses.astuple(measured))
    persistence, vanished, phantom, creation = np.nanmean(found, 0)
    assert persistence > 0.98 and vanished < 0.01 and phantom < 0.01 and creation > 0.98


def test_violations_are_measured() -> None:
    found = []
    for scene, times, size in scenes(WORLD, 12, seed=4):
        state = WORLD.truth(scene, times, **size)
        wiped, sudden = state.strokes.copy(), state.strokes.copy()
        wiped[9:] = False
        # What the brush has left by then was not there when it left.
        sudden[:13] = False
        wiped_, sudden_, none = (
            interaction(dataclasses.replace(state, strokes=strokes))
            for strokes in (wiped, sudden, np.zeros_like(wiped))
        )
        assert none.creation == 0
        found.append((wiped_.vanished, wiped_.persistence, sudden_.phantom, sudden_.creation))
    vanished, persistence, phantom, creation = np.nanmean(found, 0)
    assert vanished > 0.1 and persistence < 0.9 and phantom > 0.05 and creation < 0.6


def test_the_brush_stays_within_the_picture_and_is_never_too_fast() -> None:
    for scene, times, _ in scenes(WORLD, 60, frames=25):
        way = scene.brush(times)
        assert (way >= BRUSH).all()
        assert (way <= np.array([scene.setting.height, scene.setting.width]) - BRUSH).all()
        steps = np.hypot(*np.diff(way, axis=0).T)
        assert (steps < 0.08).all() and steps.max() > 0.01


def test_moments_do_not_depend_on_those_asked_for_beside_them() -> None:
    for scene, times, size in scenes(WORLD, 6):
        whole = WORLD.render(scene, times, **size)
        some = WORLD.render(scene, times[[11, 3, 16]], **size)
        np.testing.assert_array_equal(some, whole[[11, 3, 16]])


def test_a_stroke_has_the_width_of_its_brush_along_its_way() -> None:
    for scene, times, size in scenes(WORLD, 20, seed=5):
        if len(scene.strokes) == 1:
            state, side = WORLD.truth(scene, times, **size), min(size.values())
            painted = state.area[-1].sum() / side**2
            hidden = BRUSH + STROKE
            assert painted < 2.2 * STROKE * (scene.strokes[0].way_length + 2 * STROKE)
            assert painted > 1.6 * STROKE * (scene.strokes[0].way_length - hidden) - 0.01


def test_everything_is_used() -> None:
    drawn = [scene for scene, _, _ in scenes(WORLD, 150)]
    strokes = [stroke for scene in drawn for stroke in scene.strokes]
    assert {scene.place for scene in drawn} == {*PLACES}
    assert {stroke.kind for stroke in strokes} == {*KINDS}
    assert {stroke.colour for stroke in strokes} == {*COLOURS} - {"white"}
    assert {len(scene.strokes) for scene in drawn} == {1, 2}
    assert all(
        contrast(each.colour, scene.place) >= 100 for scene in drawn for each in scene.strokes
    )


def test_captions_say_what_is_painted_in_order() -> None:
    for index, (scene, _, _) in enumerate(scenes(WORLD, 60)):
        short, long = WORLD.captions(scene, stream(3, index))
        assert len(short.text) < 130 and len(long.text) < 400 and long.kind == "descriptive"
        at = [long.text.find(f"{each.colour} {each.kind} {each.way}") for each in scene.strokes]
        assert min(at) > 0 and at == sorted(at)
        assert (short.text + long.text).isascii()


def test_captions_leave_slots_out() -> None:
    scene = next(scene for scene, _, _ in scenes(WORLD, 20) if len(scene.strokes) == 1)
    texts = [WORLD.captions(scene, stream(7, index))[0].text for index in range(100)]
    assert 50 < sum(scene.strokes[0].colour in text for text in texts) < 100
    assert len({*texts}) > 15


def test_a_still_shows_a_stroke_and_its_captions_tell_of_no_motion() -> None:
    for index, (scene, times, size) in enumerate(scenes(WORLD, 60, frames=1)):
        state = WORLD.truth(scene, times, **size)
        assert state.area.sum() > 10
        short, long = WORLD.captions(scene, stream(3, index))
        for text in (short.text, long.text):
            assert not any(word in text for word in ("paints", "draws", "leaves", "then"))
        for colour, name in enumerate(COLOURS):
            assert (f"{name} stroke" in long.text) or not state.area[0, colour] > 40


def test_reading_an_empty_picture_finds_nothing_and_one_of_noise_is_no_error() -> None:
    plain = np.full((2, 48, 64, 3), 90, np.uint8)
    read = WORLD.read(plain)
    assert not read.visible.any() and not read.strokes.any()
    WORLD.read(stream(0).integers(0, 256, plain.shape, np.uint8))
