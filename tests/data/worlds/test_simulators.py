"""Promises of simulators as sources: deterministic, told truly, with the state they really had."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sora_jax.arrays import Size
from sora_jax.data.datasets import OpenedSource, Source
from sora_jax.data.worlds.simulators.clips import OpenedSimulator, package, step_of
from sora_jax.data.worlds.simulators.crafter import Crafter
from sora_jax.data.worlds.simulators.miniworld import MiniWorld
from sora_jax.data.worlds.simulators.vizdoom import ViZDoom

SOURCES = (Crafter(), ViZDoom(), MiniWorld())
SIZE = Size(9, 48, 64)


@pytest.fixture(scope="module")
def sets() -> dict[str, OpenedSimulator]:
    return {}


@pytest.fixture(params=SOURCES, ids=[source.name for source in SOURCES])
def opened(request: pytest.FixtureRequest, sets: dict[str, OpenedSimulator]) -> OpenedSimulator:
    return _opened(request.param, sets)


def _opened(source: Any, sets: dict[str, OpenedSimulator]) -> OpenedSimulator:
    """Four small clips, once for all tests; skips where the package is missing or cannot draw."""
    name = source.name
    if name not in sets:
        pytest.importorskip(name, reason=f"needs {name}") if name != "miniworld" else _headless()
        try:
            sets[name] = dataclasses.replace(source, clips=4, size=SIZE).open()
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("vizdoom", "pyglet"):
                raise
            pytest.skip(f"{name} cannot draw here: {type(error).__name__}: {error}")
    return sets[name]


def _headless() -> None:
    pytest.importorskip("pyglet", reason="needs miniworld").options["headless"] = True
    try:
        importlib.import_module("miniworld.envs")
    except Exception as error:
        pytest.skip(f"miniworld cannot be used here: {type(error).__name__}: {error}")


@pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
def test_a_missing_package_is_named_with_what_installs_it(
    source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(source, Source)
    for name in ("crafter", "vizdoom", "miniworld", "miniworld.envs", "pyglet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'sora_jax\[worlds\]'"):
        source.open()


def test_a_clip_is_a_function_of_seed_and_index(opened: OpenedSimulator) -> None:
    assert isinstance(opened, OpenedSource)
    assert [record.fps for record in opened.records] == [8.0] * 4
    clip = opened.simulator.simulate(2)
    assert clip.frames.shape == (*SIZE, 3) and clip.frames.dtype == np.uint8
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(opened)).read(2, 0, 9), clip.frames)
    assert clip.captions == opened.records[2].captions
    assert len({record.name for record in opened.records}) == 4
    other = dataclasses.replace(opened.simulator, seed=1)  # type: ignore[type-var]
    assert (other.simulate(2).frames != clip.frames).any()


def test_any_part_of_a_clip_can_be_read_at_any_rate(opened: OpenedSimulator) -> None:
    whole = opened.read(1, 0, 99)
    np.testing.assert_array_equal(opened.read(1, 4, 3), whole[4:7])
    np.testing.assert_array_equal(opened.read(1, 0, 99, fps=4), whole[::2])
    np.testing.assert_array_equal(opened.read(1, 0, 99, fps=16), whole.repeat(2, 0))
    assert len(opened.read(1, 7, 9)) == 2 and len(opened.read(1, 9, 9)) == 0


def test_captions_are_of_both_kinds(opened: OpenedSimulator) -> None:
    for record in opened.records:
        short, long = record.captions
        assert (short.kind, long.kind) == ("short", "descriptive")
        assert len(short.text) < 130 and len(long.text) < 400
        assert (short.text + long.text).isascii() and long.text.endswith(".")


def test_something_is_to_be_seen_and_moves(opened: OpenedSimulator) -> None:
    clips = [opened.read(index, 0, 9).astype(int) for index in range(4)]
    assert all(np.std(clip) > 5 for clip in clips)
    assert sum(np.abs(clip[-2] - clip[0]).mean() > 1 for clip in clips) >= 2


def test_nothing_is_left_where_the_program_runs(
    opened: OpenedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    opened.simulator.simulate(0)
    assert not list(tmp_path.iterdir())


def test_a_still_is_refused(opened: OpenedSimulator) -> None:
    still = dataclasses.replace(opened.simulator, size=Size(1, 48, 48))  # type: ignore[type-var]
    with pytest.raises(ValueError, match="2 frames"):
        still.open()


def test_crafter_tells_what_really_happens(sets: dict[str, OpenedSimulator]) -> None:
    source = _opened(SOURCES[0], sets)
    events = []
    for index, record in enumerate(source.records):
        state, long = source.state(index), record.captions[1].text
        assert "Minecraft-like" in long
        wood = state.carried[:, state.items.index("wood")]
        gained = int(wood[-1] - wood[0])
        assert gained == sum(name == "collect_wood" for _, name in state.events)
        assert ("of wood" in long) == (gained > 0)
        across, down = state.player[-1] - state.player[0]
        assert ("moves right" in long, "moves left" in long) == (across > 0, across < 0)
        assert ("moves down" in long, "moves up" in long) == (down > 0, down < 0)
        # The player goes one cell a step at most, and stands where the map says.
        assert np.abs(np.diff(state.player[::2], axis=0)).sum(1).max() <= 1
        for cells, (x, y) in zip(state.semantic, state.player, strict=True):
            assert state.names[cells[x, y]] == "player"
        events += state.events
    assert step_of(5).tolist() == [0, 1, 1, 2, 2]


def test_a_gatherer_gets_wood(sets: dict[str, OpenedSimulator]) -> None:
    _opened(SOURCES[0], sets)
    source = Crafter(clips=4, size=Size(33, 36, 36), policies=("gatherer",), seed=2)
    assert any("wood" in record.captions[1].text for record in source.open().records)


def test_vizdoom_knows_pose_and_depth(sets: dict[str, OpenedSimulator]) -> None:
    source = _opened(SOURCES[1], sets)
    for index, record in enumerate(source.records):
        state, long = source.state(index), record.captions[1].text
        assert state.depth.shape == tuple(SIZE) and np.ptp(state.depth) > 0
        turned = np.diff(np.unwrap(state.angle, period=360)).sum()
        assert ("left" in long) == (turned >= 20) and ("right" in long) == (turned <= -20)
        moved = np.abs(np.diff(state.position[:, :2], axis=0)).sum()
        assert moved > 20 or "forward" not in long
    # Larger clips are drawn finer, and see the same angle.
    assert state.focal == pytest.approx(SIZE.width / 2)


def test_miniworld_comes_back_to_where_it_began(sets: dict[str, OpenedSimulator]) -> None:
    _opened(SOURCES[2], sets)
    source = MiniWorld(clips=3, size=SIZE, policies=("spin",)).open()
    for index, record in enumerate(source.records):
        frames, state = source.read(index, 0, 9), source.state(index)
        np.testing.assert_array_equal(frames[0], frames[-1])
        assert (frames[4] != frames[0]).any()
        assert abs(state.angle[-1] - state.angle[0]) == pytest.approx(2 * np.pi)
        assert np.ptp(state.position, axis=0).max() == 0
        assert state.depth.shape == tuple(SIZE) and (state.depth > 0).all()
        way = "left" if state.angle[-1] > state.angle[0] else "right"
        assert way in record.captions[1].text
        assert {*state.seen} <= {name for name, _ in state.things}
        assert all(name in record.captions[1].text for name in state.seen)


def test_only_what_is_asked_for_is_imported() -> None:
    with pytest.raises(ImportError, match="there_is_no_such_package is missing"):
        package("there_is_no_such_package")
