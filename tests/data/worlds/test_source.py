"""Promises of procedural clips: deterministic, readable at any rate, in the shares asked for."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.datasets import OpenedSource, Source
from sora_jax.data.worlds import source as sources
from sora_jax.data.worlds.balls import Balls
from sora_jax.data.worlds.source import ALL, Worlds
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.data.worlds.world import Setting, World, stream

SIZES = (Size(9, 48, 64), Size(5, 64, 40), Size(1, 32, 32))


def test_worlds_are_a_source() -> None:
    assert isinstance(Worlds(), Source)
    assert isinstance(Worlds(clips=3).open(), OpenedSource)
    assert all(isinstance(world, World) for world in ALL)


def test_a_clip_is_a_function_of_seed_and_index() -> None:
    first, second = Worlds(clips=6, sizes=SIZES).open(), Worlds(clips=9, sizes=SIZES).open()
    assert first.records == second.records[:6]
    assert Worlds(seed=1).record(3).captions != Worlds(seed=2).record(3).captions
    copy = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy.read(4, 0, 5), second.read(4, 0, 5))


@pytest.mark.slow
def test_many_clips_are_drawn_alike_by_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Worlds(clips=600, sizes=SIZES).open()
    monkeypatch.setattr(sources, "_MANY", 600)
    assert Worlds(clips=600, sizes=SIZES).open() == alone


@pytest.mark.parametrize("world", ALL, ids=[world.name for world in ALL])
def test_any_part_of_a_clip_at_any_rate_is_the_same_event(world: World) -> None:
    source = Worlds(clips=1, worlds=(world,), sizes=(Size(9, 48, 48),), fps=8.0).open()
    whole = source.read(0, 0, 9)
    assert whole.shape == (9, 48, 48, 3) and whole.dtype == np.uint8
    np.testing.assert_array_equal(source.read(0, 4, 3), whole[4:7])
    np.testing.assert_array_equal(source.read(0, 0, 99, fps=16)[::2], whole)
    np.testing.assert_array_equal(source.read(0, 1, 2, fps=4), whole[2:5:2])
    assert len(source.read(0, 7, 9)) == 2
    assert len(source.read(0, 9, 9)) == 0


@pytest.mark.parametrize("world", ALL, ids=[world.name for world in ALL])
@pytest.mark.parametrize(("frames", "fps"), [(65, 8.0), (257, 8.0), (17, 1.0), (17, 2.0)])
def test_a_clip_may_be_long(world: World, frames: int, fps: float) -> None:
    sizes = (Size(frames, 48, 48), Size(frames, 48, 80), Size(frames, 80, 48))
    source = Worlds(clips=12, worlds=(world,), sizes=sizes, fps=fps).open()
    for index in range(12):
        clip = source.read(index, frames - 2, 2)
        assert clip.shape[0] == 2 and clip.std((1, 2)).any()


@pytest.mark.parametrize("world", ALL, ids=[world.name for world in ALL])
def test_captions_are_of_two_kinds_and_of_many_phrasings(world: World) -> None:
    records = Worlds(clips=40, worlds=(world,)).open().records
    assert all([c.kind for c in record.captions] == ["short", "descriptive"] for record in records)
    shorts, longs = ([record.captions[i].text for record in records] for i in (0, 1))
    assert len({*shorts}) > 20 and len({*longs}) > 20
    assert np.mean([len(text) for text in longs]) > 1.3 * np.mean([len(text) for text in shorts])
    for text in shorts + longs:
        assert text == " ".join(text.split()) and len(text.encode()) < 512


@pytest.mark.parametrize("world", ALL, ids=[world.name for world in ALL])
def test_one_scene_is_told_of_in_many_ways(world: World) -> None:
    scene = world.scene(stream(0), Setting.of(height=64, width=64, seconds=2.0))
    told = [world.captions(scene, stream(1, index)) for index in range(60)]
    for texts in zip(*((caption.text for caption in captions) for captions in told), strict=True):
        assert len({*texts}) >= 6


def test_a_still_has_no_motion_in_its_captions() -> None:
    for record in Worlds(clips=60, sizes=(Size(1, 32, 32),)).open().records:
        assert (record.frames, record.fps, record.seconds) == (1, 0.0, 0.0)
        for caption in record.captions:
            assert not any(word in caption.text for word in ("moves", "goes", "slides", "drifts"))


def test_shares_are_kept() -> None:
    class Other(Sprites):
        @property
        def name(self) -> str:
            return "other"

    source = Worlds(clips=400, worlds=(ALL[0], Other()), shares=(3.0, 1.0)).open()
    counts = Counter(record.name.split("/")[0] for record in source.records)
    assert 60 < counts["other"] < 140


@pytest.mark.parametrize(
    "settings", [{"sizes": ()}, {"worlds": ()}, {"shares": (1.0, 2.0) + (0.0,) * len(ALL)}]
)
def test_a_mixture_of_nothing_is_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="give"):
        Worlds(**settings).open()


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("clips", 0, "one clip or more"),
        ("seed", -1, "seed from 0 on"),
        ("fps", 0.0, "rate above 0"),
        ("sizes", (Size(0, 64, 64),), "a frame or more"),
        ("sizes", (Size(17, 8, 64),), "16 pixels a side"),
        ("shares", (-1.0, 2.0), "none of them negative"),
        ("worlds", (), "at least one"),
    ],
)
def test_what_cannot_be_drawn_is_told(field: str, value: Any, told: str) -> None:
    settings = {"worlds": (Sprites(), Balls()), field: value}
    with pytest.raises(ValueError, match=told):
        Worlds(**settings).open()
