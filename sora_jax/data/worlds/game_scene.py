"""The scenes of the game: boards, the games that are played on them, and what is said of them."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from scipy import ndimage

from sora_jax.data.worlds import game_rules as rules
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.game_rules import Cell, Policy, State
from sora_jax.data.worlds.world import Setting

CELLS = 6
"""On the shorter side; there are as many on the longer one as fit without being narrower."""
STEPS_PER_SECOND = 4

_WALLS = (0.1, 0.24)
"""What part of the cells is walls at first,"""
_MOST = 0.35
"""and what part at most, with the cells that they cut off."""
_COINS = (0.11, 0.2)
"""Coins for each cell of the board."""
_WARM = 8
_TRIES = 60

_SAYINGS: dict[Policy, tuple[str, ...]] = {
    "collector": (
        "walks the shortest way to the nearest coin",
        "always heads for the nearest coin",
        "takes the shortest way to each coin",
    ),
    "wanderer": ("wanders at random", "makes random moves", "walks about aimlessly"),
    "climber": (
        "climbs up wherever it can",
        "heads for the top of the board",
        "keeps climbing upward",
    ),
    "pacer": (
        "walks to and fro in one row",
        "paces left and right along one row",
        "paces to and fro along its row",
    ),
}
"""What captions say of each player."""
_ONE_WAY = ("walks straight along its row", "walks sideways in one row")
"""Of a pacer that has not turned yet."""


def board_of(height: float, width: float) -> tuple[int, int]:
    """(rows, columns) of the board that fills a picture."""
    side = min(height, width)
    # Without the small number a ratio such as 4:3 could be rounded to a cell too few.
    return int(CELLS * height / side + 1e-6), int(CELLS * width / side + 1e-6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A game: its first state, and where the player is after each step, first of all at the start.

    colour  of the player.
    """

    setting: Setting
    place: str
    colour: str
    policy: Policy
    start: State
    path: tuple[Cell, ...]

    @property
    def coins(self) -> int:
        """How many coins are collected while the scene lasts."""
        return len(self.start.coins & {*self.path})

    @property
    def sayings(self) -> tuple[str, ...]:
        """What can truly be said of how the player plays."""
        columns = np.diff([cell[1] for cell in self.path])
        turns = (columns > 0).any() and (columns < 0).any()
        return _ONE_WAY if self.policy == "pacer" and not turns else _SAYINGS[self.policy]


def new_game(rng: np.random.Generator, setting: Setting, policy: Policy) -> list[State]:
    """A game in which what the policy is about happens, where there is the time for it."""
    steps = int(setting.seconds * STEPS_PER_SECOND + 1e-6)
    for attempt in range(_TRIES):
        states = rules.played(policy, _anything(rng, setting, policy), steps, rng)
        if _tells(policy, states) or attempt == _TRIES - 1:
            break
    if not steps:
        # A still is any moment of a game, not only its start.
        states = rules.played(policy, states[0], int(rng.integers(_WARM)), rng)[-1:]
        states = [dataclasses.replace(states[0], score=0)]
    return states


def _tells(policy: Policy, states: list[State]) -> bool:
    """Whether a game shows what its captions say of its player."""
    steps = len(states) - 1
    rows = [state.player[0] for state in states]
    moved = sum(one.player != other.player for one, other in itertools.pairwise(states))
    if policy == "collector":
        return states[-1].score >= min(2, steps // 4)
    if policy == "climber":
        return rows[0] - rows[-1] >= min(3, (steps + 1) // 2)
    if policy == "pacer":
        return moved == steps and len({*rows}) == 1
    return moved == steps


def _anything(rng: np.random.Generator, setting: Setting, policy: Policy) -> State:
    """A board whose free cells are all connected, with a player; climbers start low."""
    rows, columns = board_of(setting.height, setting.width)
    walls = np.ones((rows, columns), bool)
    while walls.mean() > _MOST:
        walls = rng.random((rows, columns)) < rng.uniform(*_WALLS)
        regions = np.zeros(walls.shape, int)
        ndimage.label(~walls, output=regions)
        # What cannot be walked to becomes wall.
        walls = regions != np.bincount(regions[~walls]).argmax()
    free = [(int(row), int(column)) for row, column in np.argwhere(~walls)]
    low = rows // 2 if policy == "climber" else 0
    starts = [cell for cell in free if cell[0] >= low]
    player = starts[rng.integers(len(starts))]
    free.remove(player)
    count = int(np.rint(rng.uniform(*_COINS) * rows * columns))
    chosen = rng.permutation(len(free))[:count]
    return State(
        rows=rows,
        columns=columns,
        walls=frozenset((int(row), int(column)) for row, column in np.argwhere(walls)),
        coins=frozenset(free[index] for index in chosen.tolist()),
        player=player,
    )


def short_caption(scene: Scene, rng: np.random.Generator, *, said: float) -> str:
    """Says each slot (game, colour, the player's way, place) with probability `said`."""
    game, colour, policy, place = rng.random(4) < said
    player = f"a {scene.colour} player" if colour else "a player"
    if policy and scene.setting.seconds:
        player += f" {phrases.one_of(rng, scene.sayings)}"
    text = phrases.one_of(rng, ("Coinquest: {}", "{}, in Coinquest")) if game else "{}"
    ground = f" over {phrases.one_of(rng, phrases.GROUNDS[scene.place])}" if place else ""
    return text.format(player + ground)


def described(scene: Scene, rng: np.random.Generator) -> str:
    """Says all of them, and what lies on the board, where the player starts, what it collects."""
    start = scene.start
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    walls = _counted(len(start.walls), "brown wall")
    things = f"{walls} and {_counted(len(start.coins), 'yellow coin')}"
    size = f"{start.rows} rows and {start.columns} columns"
    board = phrases.one_of(
        rng,
        (
            f"the board of {size} lies over {ground} and has {things}",
            f"over {ground} there are {things}, on a board of {size}",
        ),
    )
    spot = phrases.where(
        (start.player[0] + 0.5) / start.rows, (start.player[1] + 0.5) / start.columns
    )
    player = f"a {scene.colour} player"
    if scene.setting.seconds:
        says = phrases.one_of(rng, scene.sayings)
        player += f" starts {spot}, {says} and collects {_counted(scene.coins, 'coin')}"
    else:
        player += f" {phrases.one_of(rng, ('is', 'stands'))} {spot}"
    forms = ("the game Coinquest: {0}; {1}", "this is Coinquest: {1}; {0}")
    return phrases.sentence(phrases.one_of(rng, forms).format(board, player))


def _counted(count: int, thing: str) -> str:
    return f"{phrases.number(count)} {thing}{'' if count == 1 else 's'}"
