"""Promises of the world of the eater: what is bitten off is gone, and nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.worlds.eater import Eater
from sora_jax.data.worlds.eater_scene import BITE, FOOD, MOUTH, SIDES
from sora_jax.data.worlds.eater_seeing import FOODS, MOUTHS, eating
from sora_jax.data.worlds.palette import PLACES, contrast
from sora_jax.data.worlds.world import FPS, Setting, World, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Eater()


def test_it_is_a_world() -> None:
    assert isinstance(WORLD, World)


def test_reading_gives_back_the_state() -> None:
    for scene, times, size in scenes(WORLD, 60, frames=9):
        truth, read = read_back(WORLD, scene, times, size)
        for field in ("place", "food", "mouth", "band"):
            assert getattr(read, field) == getattr(truth, field)
        np.testing.assert_array_equal(read.contact[truth.sure], truth.contact[truth.sure])
        np.testing.assert_array_equal(read.bites[truth.sure], truth.bites[truth.sure])
        assert far(read.centre, truth.centre) < 0.5
        assert np.abs(read.gap - truth.gap).max() < 1.7
        whole = np.pi * (FOOD * min(size.values())) ** 2
        off = np.abs(read.area - truth.area) / whole
        assert off[truth.bites >= 0].max() < 0.04 and off.max() < 0.06
        overlap = (read.mask & truth.mask).sum((1, 2)) / (read.mask | truth.mask).sum((1, 2))
        assert overlap.min() > 0.9


def test_reading_bears_blur_and_noise() -> None:
    right = []
    for index, (scene, times, size) in enumerate(scenes(WORLD, 24, frames=9, seed=1)):
        truth = WORLD.truth(scene, times, **size)
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), stream(2, index)))
        right += [getattr(read, f) == getattr(truth, f) for f in ("place", "food", "mouth", "band")]
        right += [*(read.contact == truth.contact)[truth.sure]]
        right += [*(read.bites == truth.bites)[truth.sure]]
        assert far(read.centre, truth.centre) < 1
    assert np.mean(right) > 0.97


def test_each_bite_takes_the_same_part_and_nothing_grows_back() -> None:
    counts = set()
    for scene, times, size in scenes(WORLD, 60, frames=33):
        state = WORLD.truth(scene, times, **size)
        told = state.bites >= 0
        left = state.area / (np.pi * (FOOD * min(size.values())) ** 2)
        np.testing.assert_allclose(left[told], 1 - BITE * state.bites[told], atol=0.015)
        assert (np.diff(left[told]) < 1e-4).all()
        # While there is contact, soft edges on one another are a little less than what they hide.
        assert (np.diff(left) < 0.01).all()
        assert (np.diff(state.bites[told]) >= 0).all()
        counts.add(int(state.bites[told][-1]))
    assert counts == {0, 1, 2, 3}


def test_the_area_changes_at_contact_only() -> None:
    for scene, times, size in scenes(WORLD, 40, frames=25):
        measured = eating(WORLD.truth(scene, times, **size))
        assert measured.bite_at_contact == 1 or np.isnan(measured.bite_at_contact)
        assert measured.idle_change < 1e-6 and measured.growth < 1e-6
        assert measured.persistence == 1 or np.isnan(measured.persistence)


def test_measured_on_pictures_of_the_world_it_is_nearly_as_perfect() -> None:
    found = []
    for scene, times, size in scenes(WORLD, 9, seed=2):
        measured = eating(WORLD.read(WORLD.render(scene, times, **size)))
        assert measured.bite_at_contact == 1 or np.isnan(measured.bite_at_contact)
        found.append((measured.idle_change, measured.growth, measured.persistence))
    idle_change, growth, persistence = np.array(found).T
    assert idle_change.max() < 0.01 and growth.max() < 0.04 and np.nanmin(persistence) > 0.9


def test_violations_are_measured() -> None:
    found = []
    for scene, times, size in scenes(WORLD, 24, frames=25, seed=4):
        if not scene.passes:
            state = WORLD.truth(scene, times, **size)
            uneaten, healed = np.repeat(state.mask[:1], 25, 0), state.mask.copy()
            healed[-1] = state.mask[0]
            whole, healed = (
                eating(dataclasses.replace(state, mask=each, area=each.sum((1, 2)).astype(float)))
                for each in (uneaten, healed)
            )
            assert whole.bite_at_contact == 0
            found.append((healed.growth, healed.persistence))
    growth, persistence = np.nanmean(found, 0)
    assert growth > 0.5 * BITE and persistence < 0.95


def test_every_clip_of_two_seconds_has_a_bite_or_a_mouth_that_passes_by() -> None:
    passing = []
    for scene, times, size in scenes(WORLD, 90):
        state = WORLD.truth(scene, times, **size)
        assert state.bites[0] == 0
        assert state.contact.any() != scene.passes
        assert state.bites.max() == (0 if scene.passes else len(scene.sides))
        passing.append(scene.passes)
    assert 0.1 < np.mean(passing) < 0.35


def test_the_mouth_stays_within_the_picture_and_is_never_too_fast() -> None:
    for scene, times, _ in scenes(WORLD, 90, frames=25):
        way = scene.mouths(times)
        assert (way >= MOUTH).all()
        assert (way <= np.array([scene.setting.height, scene.setting.width]) - MOUTH).all()
        assert (np.hypot(*np.diff(way, axis=0).T) < 0.08).all()


def test_moments_do_not_depend_on_those_asked_for_beside_them() -> None:
    for scene, times, size in scenes(WORLD, 6):
        whole = WORLD.render(scene, times, **size)
        some = WORLD.render(scene, times[[11, 3, 16]], **size)
        np.testing.assert_array_equal(some, whole[[11, 3, 16]])


def test_everything_is_used() -> None:
    drawn = [scene for scene, _, _ in scenes(WORLD, 150, frames=25)]
    assert {scene.place for scene in drawn} == {*PLACES}
    assert {scene.food for scene in drawn} == {*FOODS}
    assert {scene.mouth for scene in drawn} == {*MOUTHS}
    assert {scene.sides[0] for scene in drawn} == {*SIDES}
    assert {scene.band for scene in drawn} == {True, False}
    assert any(len({*scene.sides}) == 2 and not scene.passes for scene in drawn)
    for scene in drawn:
        assert all(contrast(each, scene.place) >= 100 for each in (scene.food, scene.mouth))


def test_captions_tell_who_bites_what_how_often() -> None:
    words = {1: "a bite", 2: "two bites", 3: "three bites"}
    for index, (scene, times, size) in enumerate(scenes(WORLD, 90, frames=25)):
        short, long = WORLD.captions(scene, stream(3, index))
        count = int(WORLD.truth(scene, times, **size).bites.max())
        assert len(short.text) < 130 and len(long.text) < 400 and long.kind == "descriptive"
        assert (short.text + long.text).isascii()
        food = f"{scene.food} {'burger' if scene.band else 'cookie'}"
        assert food in long.text and f"{scene.mouth} mouth" in long.text
        assert long.text.count("bites") + long.text.count("a bite") == count
        assert not any(words[other] in short.text for other in words if other != count)


def test_captions_leave_slots_out() -> None:
    scene = next(scene for scene, _, _ in scenes(WORLD, 20) if not scene.passes)
    texts = [WORLD.captions(scene, stream(7, index))[0].text for index in range(100)]
    assert 50 < sum(scene.food in text for text in texts) < 100
    assert len({*texts}) > 15


def test_stills_are_of_any_moment_and_their_captions_tell_of_no_motion() -> None:
    counts = set()
    for index, (scene, times, size) in enumerate(scenes(WORLD, 90, frames=1)):
        state = WORLD.truth(scene, times, **size)
        counts.add(int(state.bites[0]))
        for caption in WORLD.captions(scene, stream(3, index)):
            assert not any(word in caption.text for word in ("takes", "comes", "goes", "passes"))
            assert ("whole" in caption.text) <= (state.bites[0] in (0, -1))
    assert counts >= {-1, 0, 1, 2}


def test_reading_an_empty_picture_finds_nothing_and_one_of_noise_is_no_error() -> None:
    plain = np.full((2, 48, 64, 3), 90, np.uint8)
    read = WORLD.read(plain)
    assert read.food == read.mouth == -1 and (read.bites == -1).all()
    WORLD.read(stream(0).integers(0, 256, plain.shape, np.uint8))


def test_what_is_bitten_at_a_band_that_mixes_to_the_colour_of_the_ground_is_not_lost() -> None:
    setting, count = Setting.of(height=48, width=48, seconds=33 / FPS), 0
    for index in range(300):
        scene = WORLD.scene(stream(99, index), setting)
        if scene.band and scene.place == "sand":
            size = {"height": 48, "width": 48}
            truth, read = read_back(WORLD, scene, np.arange(0, 33, 4) / FPS, size)
            off = np.abs(read.area - truth.area) / (np.pi * (FOOD * 48) ** 2)
            assert off[truth.bites >= 0].max() < 0.04 and off.max() < 0.06
            count += 1
    assert count > 10
