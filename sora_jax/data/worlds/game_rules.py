"""The rules of Coinquest, its scripted players, and what explains what is seen of a game.

A board is a grid of cells: empty ones, walls, coins and one player, who stays or goes one cell up,
down, left or right, never into a wall or off the board. A coin that is stepped on vanishes and
counts. All is deterministic but the wanderer's choices.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

Cell = tuple[int, int]
"""(row, column)."""

EMPTY, WALL, COIN, PLAYER = range(4)
UNCLEAR = -1
"""What cells hold, as numbers; the last is for pictures that show none of these."""

Cells = Int[np.ndarray, "rows columns"]

Action = Literal["stay", "up", "down", "left", "right"]
ACTIONS: tuple[Action, ...] = get_args(Action)
WAYS: dict[Action, Cell] = {
    "stay": (0, 0),
    "up": (-1, 0),
    "down": (1, 0),
    "left": (0, -1),
    "right": (0, 1),
}
"""(rows, columns) that an action goes."""

Policy = Literal["collector", "wanderer", "climber", "pacer"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

Violation = Literal["unclear", "birth", "death", "wall crossing", "teleport"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """One moment of a game.

    rows, columns  of the board.
    walls, coins   the cells that hold one.
    score          coins collected so far.
    """

    rows: int
    columns: int
    walls: frozenset[Cell]
    coins: frozenset[Cell]
    player: Cell
    score: int = 0

    @property
    def cells(self) -> Cells:
        """The board as numbers."""
        grid = np.full((self.rows, self.columns), EMPTY, np.int8)
        for number, cells in ((WALL, self.walls), (COIN, self.coins), (PLAYER, (self.player,))):
            for cell in cells:
                grid[cell] = number
        return grid

    @classmethod
    def of(cls, cells: Cells) -> State | None:
        """The state that a board of numbers shows; None if it has not one player, or is unclear."""
        players = _where(cells, PLAYER)
        if len(players) != 1 or (cells == UNCLEAR).any():
            return None
        return cls(
            rows=cells.shape[0],
            columns=cells.shape[1],
            walls=_where(cells, WALL),
            coins=_where(cells, COIN),
            player=next(iter(players)),
        )


def _where(cells: Cells, number: int) -> frozenset[Cell]:
    return frozenset((int(row), int(column)) for row, column in np.argwhere(cells == number))


def target(state: State, action: Action) -> Cell:
    """The cell that an action leads to, be it free or not."""
    down, across = WAYS[action]
    return state.player[0] + down, state.player[1] + across


def legal(state: State) -> tuple[Action, ...]:
    """The actions that lead to no wall and not off the board; staying is always one of them."""
    return tuple(action for action in ACTIONS if _free(state, target(state, action)))


def _free(state: State, cell: Cell) -> bool:
    return 0 <= cell[0] < state.rows and 0 <= cell[1] < state.columns and cell not in state.walls


def step(state: State, action: Action) -> State:
    """What comes of an action; one that is not legal changes nothing."""
    cell = target(state, action)
    if not _free(state, cell):
        return state
    return dataclasses.replace(
        state,
        player=cell,
        coins=state.coins - {cell},
        score=state.score + (cell in state.coins),
    )


def choice(policy: Policy, state: State, last: Action, rng: np.random.Generator) -> Action:
    """What a scripted player does, of the action that it did last."""
    return _POLICIES[policy](state, last, rng)


def _collector(state: State, _: Action, __: np.random.Generator) -> Action:
    """The first action on a shortest way to the nearest coin; stays where there is none."""
    seen = {state.player}
    ways: list[tuple[Cell, Action]] = [(state.player, "stay")]
    for cell, first in ways:
        if cell in state.coins:
            return first
        for action in ACTIONS[1:]:
            beside = cell[0] + WAYS[action][0], cell[1] + WAYS[action][1]
            if beside not in seen and _free(state, beside):
                seen.add(beside)
                ways.append((beside, action if first == "stay" else first))
    return "stay"


def _wanderer(state: State, _: Action, rng: np.random.Generator) -> Action:
    """A move at random; stays only where it is walled in."""
    moves: tuple[Action, ...] = legal(state)[1:] or ("stay",)
    return moves[int(rng.integers(len(moves)))]


def _climber(state: State, last: Action, rng: np.random.Generator) -> Action:
    """Up where it can, else along what is in its way."""
    return "up" if "up" in legal(state) else _pacer(state, last, rng)


def _pacer(state: State, last: Action, _: np.random.Generator) -> Action:
    """To and fro in its row, turning where it cannot go on."""
    order: tuple[Action, ...] = ("left", "right") if last == "left" else ("right", "left")
    for action in order:
        if action in legal(state):
            return action
    return "stay"


_POLICIES: dict[Policy, Callable[[State, Action, np.random.Generator], Action]] = {
    "collector": _collector,
    "wanderer": _wanderer,
    "climber": _climber,
    "pacer": _pacer,
}


def played(policy: Policy, start: State, steps: int, rng: np.random.Generator) -> list[State]:
    """The states of a game of a scripted player, from `start` on: steps + 1 of them."""
    states, last = [start], ACTIONS[int(rng.integers(1, len(ACTIONS)))]
    for _ in range(steps):
        last = choice(policy, states[-1], last, rng)
        states.append(step(states[-1], last))
    return states


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """The legal action that explains a transition, or else which rule it breaks."""

    action: Action | None = None
    violation: Violation | None = None


def explained(before: Cells, after: Cells) -> Explanation:
    """How one board came to be the next.

    Of several violations the first of these is told: "unclear" where one of the boards is no
    state of the game; "wall crossing" where the player is where a wall was, or beyond one;
    "birth" or "death" of players, walls or coins; "teleport" of the player.
    """
    state = State.of(before)
    if state is not None:
        for action in legal(state):
            if np.array_equal(step(state, action).cells, after):
                return Explanation(action=action)
    return Explanation(violation=_violation(before, after))


def _violation(before: Cells, after: Cells) -> Violation:
    was, now = State.of(before), State.of(after)
    if was is not None and now is not None:
        if was.walls & _straight(was.player, now.player):
            return "wall crossing"
        if (now.walls - was.walls) | (now.coins - was.coins):
            return "birth"
        gone = (was.walls - now.walls) | (was.coins - now.coins - {now.player})
        return "death" if gone else "teleport"
    players = [int((cells == PLAYER).sum()) for cells in (before, after)]
    unclear = (before == UNCLEAR).any() or (after == UNCLEAR).any()
    if unclear or players[0] == players[1]:
        return "unclear"
    return "birth" if players[1] > players[0] else "death"


def _straight(start: Cell, end: Cell) -> set[Cell]:
    """`end`, and the cells between if they are in one row or in one column."""
    (top, bottom), (left, right) = (sorted(pair) for pair in zip(start, end, strict=True))
    if top != bottom and left != right:
        return {end}
    return {(row, column) for row in range(top, bottom + 1) for column in range(left, right + 1)}


def implied(boards: Iterable[Cells]) -> tuple[Explanation, ...]:
    """What explains each transition of a game, of the boards at its steps."""
    return tuple(explained(*pair) for pair in itertools.pairwise(boards))


def collected(start: State, explanations: Iterable[Explanation]) -> int:
    """The coins that the implied actions collect from `start` on, in the real rules.

    What no action explains counts as staying.
    """
    state = start
    for each in explanations:
        state = step(state, each.action or "stay")
    return state.score - start.score


def return_of(
    policy: Policy, start: State, steps: int, *, rng: np.random.Generator, games: int = 32
) -> float:
    """The coins that a scripted player collects from `start` on, in the mean of several games.

    That of the wanderer is the return of random play.
    """
    scores = [played(policy, start, steps, rng)[-1].score - start.score for _ in range(games)]
    return float(np.mean(scores))
