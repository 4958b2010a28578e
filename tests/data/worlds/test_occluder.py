"""Promises of the world of the occluder: what is hidden comes out again, the same and in time."""

from __future__ import annotations

import numpy as np
import pytest

from sora_jax.data.worlds.occluder import BAR, HIDDEN, PARTLY, WHOLLY, Occluder, State
from sora_jax.data.worlds.occluder_scene import LONGEST, Mover, Scene, passage_of
from sora_jax.data.worlds.occluder_words import event_of
from sora_jax.data.worlds.palette import COLOURS, PLACES, contrast
from sora_jax.data.worlds.shapes import KINDS
from sora_jax.data.worlds.world import FPS, Setting, World, stream
from tests.data.worlds.checks import blurred, far, read_back, scenes

WORLD = Occluder()


def agreement(truth: State, read: State) -> list[bool]:
    """Of each discrete field of what there is or is seen, if sure, whether it is read right."""
    there = truth.sure & ((truth.view > HIDDEN).any(0) | (read.view > HIDDEN))
    right = [read.place == truth.place]
    right += (read.view == truth.view)[there].tolist()
    return right + (read.kind == truth.kind)[there].tolist()


def test_reading_gives_back_the_state() -> None:
    assert isinstance(WORLD, World)
    views = []
    for scene, times, size in scenes(WORLD, 60, frames=17):
        times = times[::2]
        truth, read = read_back(WORLD, scene, times, size)
        assert all(agreement(truth, read)) and read.sure.all()
        assert far(read.centre[truth.sure], truth.centre[truth.sure]) < 0.5
        assert far(read.bar, truth.bar) < 0.5
        colours = [list(COLOURS).index(mover.colour) for mover in scene.movers]
        views += truth.view[:, colours][truth.sure[:, colours]].tolist()
    assert np.bincount(views).min() > 30


def test_reading_is_hardly_harmed_by_blur_and_noise() -> None:
    rng, right = stream(7), []
    for scene, times, size in scenes(WORLD, 30, frames=17):
        read = WORLD.read(blurred(WORLD.render(scene, times[::3], **size), rng))
        truth = WORLD.truth(scene, times[::3], **size)
        right += agreement(truth, read)
        assert far(read.bar, truth.bar) < 1
    assert np.mean(right) > 0.97


def test_what_is_promised_is_most_of_what_there_is() -> None:
    sure = []
    for scene, times, size in scenes(WORLD, 90):
        truth = WORLD.truth(scene, times, **size)
        colours = [list(COLOURS).index(mover.colour) for mover in scene.movers]
        sure += truth.sure[:, colours].tolist()
    assert np.mean(np.concatenate(sure)) > 0.6


@pytest.mark.parametrize("frames", [17, 33])
def test_every_shape_is_whole_then_hidden_then_whole_again(frames: int) -> None:
    for scene, times, size in scenes(WORLD, 90, frames=frames):
        fine = np.arange(0, times[-1] + 1e-9, 1 / 64)
        truth = WORLD.truth(scene, fine, **size)
        for mover in scene.movers:
            views = truth.view[:, list(COLOURS).index(mover.colour)]
            steps = views[np.flatnonzero(np.diff(views, prepend=-1))]
            assert steps.tolist() == [WHOLLY, PARTLY, HIDDEN, PARTLY, WHOLLY]
            first_and_last = [
                truth.sure[place, list(COLOURS).index(mover.colour)] for place in (0, -1)
            ]
            assert all(first_and_last)


def test_the_times_of_passage_are_those_at_which_the_view_changes() -> None:
    for scene, _, size in scenes(WORLD, 30):
        for mover in scene.movers:
            times, colour = passage_of(mover, scene.bar), list(COLOURS).index(mover.colour)
            around = np.array([times.touches, times.enters, times.emerges, times.leaves])
            for shift, views in (
                (-1e-6, [WHOLLY, PARTLY, HIDDEN, PARTLY]),
                (1e-6, [PARTLY, HIDDEN, PARTLY, WHOLLY]),
            ):
                truth = WORLD.truth(scene, around + shift, **size)
                assert truth.view[:, colour].tolist() == views
            width = scene.bar[1] - scene.bar[0]
            assert times.leaves == pytest.approx(times.enters + width / mover.speed)


def test_shapes_are_hidden_for_one_to_twelve_frames() -> None:
    times = [
        passage_of(mover, scene.bar)
        for frames in (17, 33)
        for scene, _, _ in scenes(WORLD, 150, frames=frames)
        for mover in scene.movers
    ]
    hidden = [FPS * (each.emerges - each.enters) for each in times]
    assert min(hidden) > 0.99 and max(hidden) <= LONGEST + 1e-9
    assert (np.histogram(hidden, bins=range(1, LONGEST + 1))[0] > 5).all()


def test_shapes_keep_to_the_picture_and_to_their_rows_and_move_slowly_enough() -> None:
    for scene, times, _ in scenes(WORLD, 90):
        rows = []
        for mover in scene.movers:
            way = mover.at(times)
            assert (way[:, 1] >= mover.half - 1e-9).all()
            assert (way[:, 1] <= scene.setting.width - mover.half + 1e-9).all()
            assert np.sign(way[-1, 1] - way[0, 1]) == (1 if mover.way == "right" else -1)
            assert mover.radius <= way[0, 0] <= scene.setting.height - mover.radius
            assert mover.speed / FPS <= 0.08 + 1e-9
            rows.append((way[0, 0] - mover.radius, way[0, 0] + mover.radius))
        assert len(rows) == 1 or min(rows)[1] < max(rows)[0]


def test_the_bar_stands_out_from_everything() -> None:
    for colour in (*COLOURS.values(), *PLACES.values()):
        assert max(abs(a - b) for a, b in zip(BAR, colour, strict=True)) >= 100
    for place in PLACES.values():
        for colour in COLOURS.values():
            ways = [np.subtract(each, place, dtype=float) for each in (BAR, colour)]
            lengths = [np.linalg.norm(way) for way in ways]
            assert abs(ways[0] @ ways[1]) / np.prod(lengths) < 0.9 or min(lengths) < 50


def test_scenes_are_varied_and_stand_out_from_their_places() -> None:
    drawn = [scene for scene, _, _ in scenes(WORLD, 200)]
    movers = [mover for scene in drawn for mover in scene.movers]
    assert {len(scene.movers) for scene in drawn} == {1, 2}
    assert {scene.place for scene in drawn} == {*PLACES}
    assert {mover.colour for mover in movers} == {*COLOURS}
    assert {mover.kind for mover in movers} == {*KINDS}
    assert {mover.way for mover in movers} == {"left", "right"}
    for scene in drawn:
        assert len({mover.colour for mover in scene.movers}) == len(scene.movers)
        assert all(contrast(mover.colour, scene.place) >= 100 for mover in scene.movers)


def test_a_picture_depends_on_its_time_alone() -> None:
    for scene, times, size in scenes(WORLD, 6):
        pictures = WORLD.render(scene, times, **size)
        np.testing.assert_array_equal(WORLD.render(scene, times[::-2], **size), pictures[::-2])


def test_captions_of_whole_passages_are_true_varied_and_short_enough() -> None:
    shorts = set()
    for index, (scene, _, _) in enumerate(scenes(WORLD, 150)):
        short, long = WORLD.captions(scene, stream(3, index))
        shorts.add(short.text)
        assert short.text.isascii() and len(short.text) < 130
        assert long.text.isascii() and len(long.text) < 400
        for mover in scene.movers:
            assert f"{mover.colour} {mover.kind}" in long.text
            assert f"moves {mover.way}" in long.text
        ways = {mover.way for mover in scene.movers}
        assert all(way in ways or way not in short.text for way in ("left", "right"))
        if "comes out first" in long.text:
            first = min(scene.movers, key=lambda mover: passage_of(mover, scene.bar).leaves)
            assert f"The {first.colour} one comes out first" in long.text
    assert len(shorts) > 120


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_captions_of_short_clips_and_stills_say_what_is_seen_and_no_more(frames: int) -> None:
    events = set()
    for index, (scene, times, size) in enumerate(scenes(WORLD, 150, frames=frames)):
        truth = WORLD.truth(scene, times, **size)
        captions = WORLD.captions(scene, stream(5, index))
        assert all(len(caption.text) < 130 or caption.kind != "short" for caption in captions)
        for mover in scene.movers:
            event = event_of(mover, scene)
            events.add(event)
            views = truth.view[:, list(COLOURS).index(mover.colour)]
            seen = event != "hidden"
            assert (views > HIDDEN).any() == seen
            assert (f"{mover.colour} {mover.kind}" in captions[1].text) == seen
            if event in ("before", "after", "beside"):
                assert (views == WHOLLY).all()
            if event in ("through", "in"):
                assert views[0] > HIDDEN
            if event in ("through", "out"):
                assert views[-1] > HIDDEN
        if frames == 1:
            assert not any("moves" in caption.text for caption in captions)
    if frames == 1:
        assert events == {"partly", "beside", "hidden"}
    else:
        assert events >= {"in", "out", "hidden", "through"}


def test_captions_of_one_scene_leave_different_things_out() -> None:
    mover = Mover(
        kind="cross", colour="blue", radius=0.1, way="right", start=(0.4, 0.15), speed=0.36
    )
    setting = Setting.of(height=64, width=64, seconds=2.125)
    scene = Scene(setting=setting, place="snow", bar=(0.4, 0.65), movers=(mover,))
    texts = [WORLD.captions(scene, stream(4, index))[0].text for index in range(200)]
    for word in ("blue", "cross", "right", "cyan", "snow"):
        assert 100 < sum(word in text for text in texts) < 200
