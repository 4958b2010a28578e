"""Promises of the world of balls: they fall, bounce and collide as they should, and are read so."""

from __future__ import annotations

import numpy as np
import pytest

from sora_jax.data.worlds.balls import RESTITUTIONS, Balls, flights
from sora_jax.data.worlds.balls_flight import (
    FASTEST,
    GRAVITY,
    Ball,
    Scene,
    centres_at,
    collisions,
    contacts,
)
from sora_jax.data.worlds.palette import COLOURS, PLACES, contrast
from sora_jax.data.worlds.seeing import Seen
from sora_jax.data.worlds.shapes import blank, depth_of, finished, paint
from sora_jax.data.worlds.world import FPS, Setting, Times, World, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Balls()


def velocities_at(scene: Scene, times: Times) -> np.ndarray:
    """(down, across) of the speed of each ball at each time [frames, balls, 2], by differences."""
    step = 2e-8
    before, after = (centres_at(scene, np.asarray(times) + shift) for shift in (0, step))
    return (after - before) / step


def agreement(truth: Seen, read: Seen) -> list[bool]:
    """Of each discrete field of what there is or is seen, whether it is read right."""
    there = truth.visible | read.visible
    right = [read.place == truth.place]
    right += (read.visible == truth.visible)[there].tolist()
    return right + (read.kind == truth.kind)[there].tolist()


def test_reading_gives_back_the_state() -> None:
    assert isinstance(WORLD, World)
    for scene, times, size in scenes(WORLD, 60, frames=5):
        truth, read = read_back(WORLD, scene, times, size)
        assert all(agreement(truth, read))
        assert far(read.centre, truth.centre) < 0.5
        np.testing.assert_allclose(read.area, truth.area, rtol=0.06)


def test_reading_is_hardly_harmed_by_blur_and_noise() -> None:
    rng, right = stream(7), []
    for scene, times, size in scenes(WORLD, 30, frames=5):
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), rng))
        right += agreement(WORLD.truth(scene, times, **size), read)
    assert np.mean(right) > 0.97


@pytest.mark.parametrize("overlap", [-1.0, 0.0, 2.0, 6.0])
def test_balls_that_touch_or_cover_each_other_are_read_whole(overlap: float) -> None:
    canvas = blank(PLACES["snow"], 1, height=64, width=64)
    under = np.array([[30.3, 25.2]])
    over = under + np.array([[0.6, 0.8]]) * (7 + 6 - overlap)
    for colour, centre, radius in (("red", under, 7.0), ("blue", over, 6.0)):
        paint(canvas, depth_of("circle", radius), COLOURS[colour], centre=centre, reach=radius)
    read = WORLD.read(finished(canvas))
    red, blue = (list(COLOURS).index(colour) for colour in ("red", "blue"))
    assert read.visible.sum() == 2
    assert far(read.centre[:, red], under) < 0.2 and far(read.centre[:, blue], over) < 0.2
    np.testing.assert_allclose(read.area[0, [red, blue]], np.pi * np.array([49, 36]), rtol=0.04)


def test_between_contacts_balls_fall_with_gravity() -> None:
    free, seen_free = [], []
    for index, (scene, times, size) in enumerate(scenes(WORLD, 90)):
        free += flights(WORLD.truth(scene, times, **size), fps=FPS, **size)
        if index < 18:
            read = WORLD.read(WORLD.render(scene, times, **size))
            seen_free += flights(read, fps=FPS, **size)
    assert max(np.abs(flight.residual).max() for flight in free) < 1e-9
    assert len(free) > 60
    errors = [np.linalg.norm(flight.residual) for flight in seen_free]
    assert len(errors) > 10 and np.mean(errors) < 0.1 * GRAVITY


def test_what_does_not_fall_has_the_residual_of_gravity() -> None:
    state = Seen.nothing("snow", 8, len(COLOURS))
    state.visible[:, 0] = True
    state.centre[:, 0] = 32 + np.arange(8)[:, None] * (0, 1)
    state.area[:, 0] = 100.0
    (flight,) = flights(state, fps=FPS, height=64, width=64)
    assert flight[:3] == (0, 0, 7)
    np.testing.assert_allclose(flight.residual, [-GRAVITY, 0], atol=1e-9)
    # A wall nearby: it may have touched that between any two frames.
    state.centre[:, 0, 0] = 8
    assert not flights(state, fps=FPS, height=64, width=64)


def test_balls_stay_in_the_box_and_apart_and_slow_enough() -> None:
    for scene, _, _ in scenes(WORLD, 60, frames=33):
        times = np.arange(0, 4.1, 1 / 64)
        way, radii = centres_at(scene, times), np.array([ball.radius for ball in scene.balls])
        sides = np.array([scene.setting.height, scene.setting.width])
        assert (way >= radii[:, None] - 1e-6).all()
        assert (way <= sides - radii[:, None] + 1e-6).all()
        assert all(each.speed <= FASTEST for each in contacts(scene))
        assert np.linalg.norm(velocities_at(scene, times), axis=-1).max() < 1.25 * FASTEST
        for one in range(len(radii)):
            for two in range(one):
                gap = np.linalg.norm(way[:, one] - way[:, two], axis=-1) - radii[one] - radii[two]
                assert gap.min() > -1e-6


def test_collisions_keep_momentum_and_lose_speed_by_the_restitution() -> None:
    count = 0
    for scene, _, _ in scenes(WORLD, 90):
        all_contacts = contacts(scene)
        for each in all_contacts:
            if sum(abs(each.time - other.time) < 1e-3 for other in all_contacts) > 1:
                continue
            before, after = velocities_at(scene, np.array([each.time - 1e-7, each.time + 1e-7]))
            if isinstance(each.other, int):
                pair = [each.ball, each.other]
                masses = np.array([scene.balls[ball].radius ** 2 for ball in pair])
                np.testing.assert_allclose(masses @ before[pair], masses @ after[pair], atol=1e-6)
                line = np.diff(centres_at(scene, np.array([each.time]))[0][pair], axis=0)[0]
                closing, parting = (
                    float(np.diff(velocity[pair], axis=0)[0] @ line / np.linalg.norm(line))
                    for velocity in (-before, after)
                )
                lost = scene.restitution * closing
            else:
                axis = int(each.other == "wall")
                closing, parting = abs(before[each.ball, axis]), abs(after[each.ball, axis])
                lost = scene.restitution * closing
            assert parting == pytest.approx(
                max(lost, 0.02 if each.other != "wall" else 0), abs=1e-5
            )
            count += 1
    assert count > 200


def test_elastic_balls_keep_their_energy_and_dull_ones_never_gain_any() -> None:
    for scene, times, _ in scenes(WORLD, 90, frames=33):
        masses = np.array([ball.radius**2 for ball in scene.balls])
        heights = scene.setting.height - centres_at(scene, times)[..., 0]
        energy = velocities_at(scene, times) ** 2 @ np.ones(2) / 2 + GRAVITY * heights
        total = energy @ masses / masses.sum()
        assert scene.restitution in RESTITUTIONS
        if scene.restitution == 1:
            np.testing.assert_allclose(total, total[0], atol=2e-3)
        else:
            assert (np.diff(total) < 1e-3).all() and total[-1] < total[0]


def test_every_clip_of_two_seconds_has_a_bounce_and_many_a_collision() -> None:
    hits = []
    for scene, times, _ in scenes(WORLD, 150):
        floors = [each.time for each in contacts(scene) if each.other == "floor"]
        assert floors and floors[0] < times[-1]
        if len(scene.balls) > 1:
            hits.append(bool(collisions(scene)))
        ends = [each.time for each in contacts(scene) if isinstance(each.other, int)]
        assert all(end < times[-1] for end in ends)
    assert 0.5 < np.mean(hits) < 0.9


def test_a_picture_depends_on_its_time_alone() -> None:
    for scene, times, size in scenes(WORLD, 6):
        pictures = WORLD.render(scene, times, **size)
        late = np.array([6.5, *times[::-2]])
        np.testing.assert_array_equal(WORLD.render(scene, late, **size)[1:], pictures[::-2])


def test_scenes_are_varied_and_stand_out_from_their_places() -> None:
    drawn = [scene for scene, _, _ in scenes(WORLD, 200)]
    assert {len(scene.balls) for scene in drawn} == {1, 2, 3}
    assert {scene.place for scene in drawn} == {*PLACES}
    assert {ball.colour for scene in drawn for ball in scene.balls} == {*COLOURS}
    starts = [ball.how for scene in drawn for ball in scene.balls]
    assert {*starts} == {"dropped", "thrown left", "thrown right"}
    for scene in drawn:
        assert len({ball.colour for ball in scene.balls}) == len(scene.balls)
        assert all(contrast(ball.colour, scene.place) >= 100 for ball in scene.balls)


def test_stills_show_any_moment_and_their_captions_no_motion() -> None:
    heights = []
    for scene, times, _ in scenes(WORLD, 60, frames=1):
        ball = scene.balls[0]
        heights.append(scene.setting.height - centres_at(scene, times)[0, 0, 0] - ball.radius)
        for caption in WORLD.captions(scene, stream(2)):
            for word in ("dropped", "thrown", "colli", " hit", "bounce"):
                assert word not in caption.text
    assert min(heights) < 0.05 and max(heights) > 0.3


def test_captions_are_true_varied_and_short_enough() -> None:
    shorts = set()
    for index, (scene, _, _) in enumerate(scenes(WORLD, 150)):
        short, long = WORLD.captions(scene, stream(3, index))
        shorts.add(short.text)
        assert short.text.isascii() and len(short.text) < 130
        assert long.text.isascii() and len(long.text) < 400
        for ball in scene.balls:
            assert f"{ball.colour} ball" in long.text and f"is {ball.how}" in long.text
        for text in (short.text, long.text.lower()):
            none = any(word in text for word in ("none", "no collision", "no two", "not hit"))
            some = "colli" in text or " hit" in text
            assert not none or not collisions(scene)
            assert none or not some or collisions(scene)
        assert ("without losing" in long.text) == (scene.restitution == 1)
    assert len(shorts) > 120


def test_captions_of_one_scene_leave_different_things_out() -> None:
    balls = (
        Ball(colour="red", radius=0.1, start=(0.5, 0.3), velocity=(0.0, 0.0)),
        Ball(colour="blue", radius=0.12, start=(0.6, 0.7), velocity=(-0.1, 0.2)),
    )
    setting = Setting.of(height=64, width=64, seconds=2.0)
    scene = Scene(setting=setting, place="snow", restitution=1.0, balls=balls)
    texts = [WORLD.captions(scene, stream(4, index))[0].text for index in range(200)]
    for word in ("red", "thrown right", "snow", "colli"):
        assert 100 < sum(word in text for text in texts) < 200
