"""Promises of the world of shatter: glass breaks where it hits the floor, and nothing is lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.palette import COLOURS, PLACES
from sora_jax.data.worlds.shatter import Shatter
from sora_jax.data.worlds.shatter_seeing import (
    State,
    area_error,
    breaks_at_contact,
    breaks_without_contact,
    pieces_after,
    reassembles,
)
from sora_jax.data.worlds.world import FPS, Setting, World, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Shatter()


def agreement(truth: State, read: State) -> list[bool]:
    """Of each discrete field that the truth promises, whether it is read so."""
    told, sure = truth.pieces > 0, truth.touches >= 0
    right = [read.place == truth.place, read.colour == truth.colour, read.floor == truth.floor]
    right += (read.pieces == truth.pieces)[told].tolist()
    right += (read.rubber == truth.rubber)[told].tolist()
    right += (read.touches == truth.touches)[sure].tolist()
    return right


def test_reading_gives_back_the_state() -> None:
    assert isinstance(WORLD, World)
    for frames in (5, 17):
        for scene, times, size in scenes(WORLD, 30, frames=frames, seed=frames):
            truth, read = read_back(WORLD, scene, times[:: 1 + frames // 8], size)
            assert all(agreement(truth, read))
            told = truth.pieces > 0
            assert far(read.centre[told], truth.centre[told]) < 0.5
            np.testing.assert_allclose(read.area[told], truth.area[told], rtol=0.06)


def test_reading_is_hardly_harmed_by_blur_and_noise() -> None:
    rng, right = stream(7), []
    for scene, times, size in scenes(WORLD, 45, frames=17, seed=21):
        times = times[::5]
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), rng))
        right += agreement(WORLD.truth(scene, times, **size), read)
    assert np.mean(right) > 0.97


def test_glass_breaks_at_contact_and_not_before_and_rubber_never() -> None:
    rubbers = []
    for scene, times, size in scenes(WORLD, 60):
        truth = WORLD.truth(scene, times, **size)
        rubbers.append(scene.rubber)
        assert truth.pieces[0] == 1 and not breaks_without_contact(truth)
        if scene.rubber:
            assert (truth.pieces == 1).all() and pieces_after(truth) == 0
        else:
            assert 3 <= len(scene.wedges) <= 6
            assert truth.pieces[-1] == pieces_after(truth) == len(scene.wedges)
            assert breaks_at_contact(truth) and not reassembles(truth)
            # From the impact on some of it lies on the floor.
            assert (truth.touches[times >= scene.impact] == 1).all()
            assert (truth.touches[times < scene.impact - 0.1] == 0).all()
    assert 0.1 < np.mean(rubbers) < 0.4


def test_what_is_read_of_true_clips_breaks_no_rule() -> None:
    for scene, times, size in scenes(WORLD, 20, seed=3):
        read = WORLD.read(WORLD.render(scene, times, **size))
        assert pieces_after(read) == len(scene.wedges)
        assert not breaks_without_contact(read) and not reassembles(read)
        assert scene.rubber or breaks_at_contact(read)
        assert area_error(read) < 0.06


def test_pieces_have_the_area_of_the_disc_and_stay_within_the_picture() -> None:
    for scene, _, _ in scenes(WORLD, 60):
        fine = np.linspace(scene.impact, scene.impact + 2, 60)
        poses = [w.pose(scene.hit, scene.floor, fine - scene.impact) for w in scene.wedges]
        area = sum(wedge.area for wedge in scene.wedges)
        assert scene.rubber or area == pytest.approx(np.pi * scene.radius**2)
        for wedge, pose in zip(scene.wedges, poses, strict=True):
            outline = wedge.outline(pose)
            assert (outline[..., 0] < scene.floor + 1e-9).all()
            assert (outline[..., 1] > 0).all() and (outline[..., 1] < scene.setting.width).all()
            # No faster than can be seen, and still at the end.
            steps = np.hypot(*np.diff(pose[:2], axis=1)) / np.diff(fine)
            assert steps.max() < 0.9 and steps[-5:].max() == 0


def test_a_fall_gets_faster_and_a_bounce_lower() -> None:
    times = np.arange(60) / 8
    for scene, _, size in scenes(Shatter(rubber=1.0), 20, frames=33):
        down = WORLD.truth(scene, times, **size).centre[:, 0]
        before = np.diff(down[times < scene.impact])
        assert (np.diff(before) > 0).all()
        assert down[times > scene.impact].min() > down[0] - 1e-6 or scene.impact < 0.7
        assert np.ptp(down[-4:]) < 0.5


def test_the_metrics_see_what_is_wrong() -> None:
    world = Shatter(rubber=0.0)
    for scene, times, size in scenes(world, 6):
        truth = world.truth(scene, times, **size)
        back = dataclasses.replace(
            truth, **{k: getattr(truth, k)[::-1] for k in ("pieces", "area", "touches")}
        )
        assert reassembles(back)
        early = dataclasses.replace(truth, touches=np.zeros_like(truth.touches))
        assert breaks_without_contact(early) and breaks_at_contact(early) is None
        never = dataclasses.replace(truth, pieces=np.ones_like(truth.pieces))
        assert breaks_at_contact(never, within=3) is False and pieces_after(never) == 0
        shrinking = dataclasses.replace(truth, area=truth.area * np.linspace(1, 0.5, len(times)))
        assert area_error(shrinking) == pytest.approx(0.5)
        end, begin = np.arange(len(times)) >= len(times) - 3, np.arange(len(times)) < 3
        for where in (end, begin):
            # Seen unclearly before it is told, and gone after; or gone at the end.
            gone = where & (np.arange(len(times)) > 1)
            area = np.where(gone, 0, np.where(where, 80.0, truth.area))
            lost = dataclasses.replace(truth, area=area, pieces=np.where(where, -1, truth.pieces))
            assert area_error(lost) == pytest.approx(1, abs=0.05)
            assert (pieces_after(lost) == -1) == (where is end)


def test_nothing_is_seen_where_there_is_nothing() -> None:
    empty = np.full((2, 48, 48, 3), PLACES["field"], np.uint8)
    read = WORLD.read(empty)
    assert read.colour == -1 and (read.pieces == -1).all() and (read.area == 0).all()
    assert np.isnan(area_error(read)) and pieces_after(read) == 0


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_captions_are_true_and_varied(frames: int) -> None:
    texts, seen = [], set()
    for index, (scene, times, size) in enumerate(scenes(WORLD, 60, frames=frames)):
        short, long = (each.text for each in WORLD.captions(scene, stream(9, index)))
        texts += [short, long]
        truth = WORLD.truth(scene, times, **size)
        seen |= {*truth.pieces.tolist()}
        assert len(short) < 130 and len(long) < 400 and (short + long).isascii()
        assert scene.colour in long and ("brown table" in long) == scene.table
        assert ("rubber" in long) == scene.rubber and ("glass" in long) != scene.rubber
        broken = any(word in long for word in ("breaks", "shatters", "bursts", "pieces"))
        assert broken == (truth.pieces[-1] != 1) or abs(times[-1] - scene.impact) < 0.13
        for other in {3, 4, 5, 6} - {len(scene.wedges)}:
            assert f"{phrases.number(other)} pieces" not in short + long
        if frames == 1:
            assert not any(word in short + long for word in ("falls", "drops", "bounces", "fly "))
    assert len({*texts}) > 100 and seen >= {1, -1}


def test_every_colour_and_place_is_used_and_stills_are_any_moment() -> None:
    still = Setting.of(height=48, width=48, seconds=0.0)
    drawn = [WORLD.scene(stream(4, index), still) for index in range(150)]
    assert {scene.place for scene in drawn} == {*PLACES}
    assert {scene.colour for scene in drawn} == {*COLOURS}
    pieces = [int(WORLD.truth(s, np.zeros(1), height=48, width=48).pieces[0]) for s in drawn]
    assert {*pieces} == {-1, 1, 3, 4, 5, 6}


def test_a_floor_is_found_below_pieces_that_hide_much_of_it() -> None:
    setting = Setting.of(height=128, width=72, seconds=33 / FPS)
    for index in range(60):
        scene, late = WORLD.scene(stream(4, index), setting), np.array([4.0])
        truth, read = read_back(WORLD, scene, late, {"height": 128, "width": 72})
        assert read.floor == truth.floor
