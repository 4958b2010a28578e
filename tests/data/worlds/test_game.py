"""Promises of the world of a game: its rules are kept, seen exactly, and found again."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import ndimage

from sora_jax.data.worlds import game_rules as rules
from sora_jax.data.worlds.game import FRAMES_PER_STEP, Game, Play
from sora_jax.data.worlds.game_rules import COIN, PLAYER, POLICIES, UNCLEAR, WALL, State
from sora_jax.data.worlds.game_scene import board_of
from sora_jax.data.worlds.world import Setting, World, stream
from tests.data.worlds.checks import blurred, read_back, scenes

WORLD = Game()

START = State(
    rows=3,
    columns=4,
    walls=frozenset({(0, 1), (1, 1)}),
    coins=frozenset({(1, 0), (2, 3)}),
    player=(0, 0),
)
"""P # . .  /  o # . .  /  . . . o"""


def assert_same(read: Play, truth: Play) -> None:
    assert (read.place, read.colour) == (truth.place, truth.colour)
    for field in ("cells", "player", "score"):
        np.testing.assert_array_equal(getattr(read, field), getattr(truth, field))


def states(play: Play) -> np.ndarray:
    return play.cells[::FRAMES_PER_STEP]


def changed(cells: np.ndarray, **to: tuple[int, int]) -> np.ndarray:
    cells, numbers = cells.copy(), {"empty": 0, "wall": WALL, "coin": COIN, "player": PLAYER}
    for name, cell in to.items():
        cells[cell] = numbers[name]
    return cells


def test_reading_gives_back_the_state() -> None:
    assert isinstance(WORLD, World)
    for scene, times, size in scenes(WORLD, 60, frames=5):
        assert_same(*reversed(read_back(WORLD, scene, times, size)))


def test_reading_is_hardly_harmed_by_blur_and_noise() -> None:
    rng, right = stream(7), []
    for scene, times, size in scenes(WORLD, 30, frames=5):
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), rng))
        truth = WORLD.truth(scene, times, **size)
        right += [read.place == truth.place, read.colour == truth.colour]
        right += (read.cells == truth.cells).ravel().tolist()
        right += (read.player == truth.player).all(1).tolist()
    assert np.mean(right) > 0.97


def test_cells_are_eight_pixels_at_least_and_fill_the_picture() -> None:
    assert board_of(48.0, 48.0) == (6, 6)
    for height, width in ((48.0, 85.0), (64.0, 112.0), (72.0, 128.0), (48.0, 64.0), (48.0, 60.0)):
        rows, columns = board_of(height, width)
        assert (columns, rows) == board_of(width, height)
        assert min(height / rows, width / columns) >= 8
        assert 0.8 < (height / rows) / (width / columns) <= 1


def test_every_transition_of_a_true_game_is_explained() -> None:
    for scene, times, size in scenes(WORLD, 40):
        play = WORLD.truth(scene, times, **size)
        explanations = rules.implied(states(play))
        assert all(each.violation is None for each in explanations)
        # Between the steps nothing moves.
        np.testing.assert_array_equal(play.cells[1::2], play.cells[2::2])
        assert rules.collected(scene.start, explanations) == scene.coins == play.score[-1]
        assert (play.cells == PLAYER).sum((1, 2)).tolist() == [1] * len(times)
        assert (np.diff(play.score) >= 0).all() and play.score[0] == 0


def test_shuffled_games_are_not_explained() -> None:
    shares = []
    for index, (scene, times, size) in enumerate(scenes(WORLD, 30)):
        boards = stream(5, index).permutation(states(WORLD.truth(scene, times, **size)))
        shares += [each.violation is None for each in rules.implied(boards)]
    assert np.mean(shares) < 0.4


def test_the_rules_are_those_of_the_game() -> None:
    assert rules.legal(START) == ("stay", "down")
    down = rules.step(START, "down")
    assert (down.player, down.coins, down.score) == ((1, 0), {(2, 3)}, 1)
    for action in ("up", "left", "right", "stay"):
        assert rules.step(START, action) == START
    again = State.of(down.cells)
    assert again is not None and (again.player, again.coins) == (down.player, down.coins)


def test_each_broken_rule_is_named() -> None:
    before = START.cells
    gone = changed(before, empty=(0, 0))
    for violation, after in {
        "teleport": changed(gone, player=(2, 2)),
        "wall crossing": changed(gone, player=(0, 3)),
        "birth": changed(before, coin=(2, 0)),
        "death": changed(before, empty=(2, 3)),
        "unclear": np.where(before == WALL, UNCLEAR, before),
    }.items():
        assert dataclasses.asdict(rules.explained(before, after)) == {
            "action": None,
            "violation": violation,
        }
    for violation, pair in {
        "wall crossing": (before, changed(gone, player=(0, 1))),
        "birth": (gone, before),
        "death": (before, gone),
        "unclear": (gone, gone),
    }.items():
        assert rules.explained(*pair).violation == violation
    assert rules.explained(before, changed(before, wall=(2, 1))).violation == "birth"
    assert rules.explained(before, changed(before, player=(2, 1))).violation == "birth"


def test_players_do_as_they_are_called() -> None:
    turns = set()
    for scene, times, size in scenes(WORLD, 200):
        boards = states(WORLD.truth(scene, times, **size))
        done = [each.action for each in rules.implied(boards)]
        if scene.policy == "collector":
            assert scene.coins >= 2
        elif scene.policy == "climber":
            assert scene.path[0][0] - scene.path[-1][0] >= 3 and "down" not in done
        elif scene.policy == "pacer":
            assert {*done} <= {"left", "right"}
            turns.add(any("fro" in saying for saying in scene.sayings))
        else:
            assert "stay" not in done
    assert True in turns


def test_a_collector_takes_a_shortest_way_and_collects_more_than_chance() -> None:
    rng, returns = stream(3), []
    for scene, _, _ in scenes(Game(policies=("collector",)), 20):
        steps = len(scene.path) - 1
        returns.append(
            (scene.coins, rules.return_of("wanderer", scene.start, steps, rng=rng, games=8))
        )
        assert rules.return_of("collector", scene.start, steps, rng=rng, games=1) == scene.coins
    mine, random = np.mean(returns, 0)
    assert mine > 1.8 * random
    path = [state.player for state in rules.played("collector", START, 8, rng)]
    assert path == [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), *[(2, 3)] * 3]


def test_every_free_cell_can_be_walked_to() -> None:
    for scene, _, _ in scenes(WORLD, 60):
        cells = scene.start.cells
        assert ndimage.label(cells != WALL, output=np.zeros_like(cells)) == 1
        assert 3 <= len(scene.start.coins) <= 12 and (cells == WALL).any()


@pytest.mark.parametrize("frames", [1, 17, 33])
def test_captions_are_true_and_varied(frames: int) -> None:
    texts, policies = [], set()
    for index, (scene, _, _) in enumerate(scenes(WORLD, 60, frames=frames)):
        short, long = (each.text for each in WORLD.captions(scene, stream(9, index)))
        texts += [short, long]
        policies.add(scene.policy)
        assert len(short) < 130 and len(long) < 400 and (short + long).isascii()
        assert "Coinquest" in long and f"a {scene.colour} player" in long
        said = [saying for saying in scene.sayings if saying in long]
        assert len(said) == (frames > 1)
        assert ("collects" in long) == (frames > 1)
        assert not any(other in short + long for other in _others(scene.policy, scene.sayings))
    assert policies == {*POLICIES} and len({*texts}) > 100


def _others(policy: str, sayings: tuple[str, ...]) -> list[str]:
    words = {"collector": "coin,", "climber": "climb", "pacer": "row,", "wanderer": "random"}
    return [word for other, word in words.items() if other != policy and word not in str(sayings)]


def test_a_game_is_the_same_at_every_rate_and_a_still_is_any_moment() -> None:
    scene, times, size = next(iter(scenes(WORLD, 1)))
    fine = WORLD.truth(scene, np.arange(2 * len(times)) / 16, **size)
    np.testing.assert_array_equal(fine.cells[::2], WORLD.truth(scene, times, **size).cells)
    still = Setting.of(height=48, width=48, seconds=0.0)
    drawn = [WORLD.scene(stream(4, index), still) for index in range(40)]
    assert len({scene.start.player for scene in drawn}) > 15
    assert all(len(scene.path) == 1 for scene in drawn)
    pairs = itertools.pairwise(WORLD.scene(stream(4, 0), still) for _ in range(3))
    assert all(one == other for one, other in pairs)
