"""The world of a game: a scripted player of Coinquest on a board that fills the picture.

Four steps are done a second, and between them nothing moves: the player jumps from cell to cell,
so that every picture shows one state of the game, and shows it exactly; half-way pictures would
have none. Steps fall at an eighth of a second and every quarter from there. So at 8 frames a second
the first frame shows the first state and each two after it the next: an autoencoder that compresses
time by four, which takes the first frame alone, has two whole states in each latent, and never a
part of one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import game_rules as rules
from sora_jax.data.worlds.game_rules import COIN, EMPTY, PLAYER, UNCLEAR, WALL, Policy
from sora_jax.data.worlds.game_scene import (
    STEPS_PER_SECOND,
    Scene,
    board_of,
    described,
    new_game,
    short_caption,
)
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.seeing import place_of
from sora_jax.data.worlds.world import FPS, Frames, Setting, Times

FRAMES_PER_STEP = round(FPS / STEPS_PER_SECOND)
"""Two at 8 frames a second: a clip's frames 0, 2, 4 and so on show its states, each once."""

_PLACES = tuple(place for place in PLACES if "yellow" in colours_over(place))
_WALL_COLOUR = (100, 50, 10)
_RADII = {PLAYER: 0.42, COIN: 0.31}
"""Of discs, in units of a cell's shorter side."""
_MIDDLE = 0.2
"""How far from the middle of a cell, in cells, pixels are looked at: inside a coin everywhere."""
_UNLIKE = 150
"""From how many levels of difference on, over all channels, a colour is none of those known."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Play:
    """What is seen of a game.

    colour  of the player; empty if none is seen.
    cells   what each holds: EMPTY, WALL, COIN, PLAYER, or UNCLEAR.
    player  (row, column); -1 where not exactly one is seen.
    score   how many coins fewer than in the first frame are seen.
    """

    place: str
    colour: str
    cells: Int[np.ndarray, "frames rows columns"]
    player: Int[np.ndarray, "frames 2"]
    score: Int[np.ndarray, " frames"]

    @classmethod
    def of(cls, cells: Int[np.ndarray, "frames rows columns"], *, place: str, colour: str) -> Play:
        """What boards say."""
        player = np.full((len(cells), 2), -1)
        for frame, board in enumerate(cells == PLAYER):
            if board.sum() == 1:
                player[frame] = np.argwhere(board)[0]
        coins = (cells == COIN).sum((1, 2))
        return cls(place=place, colour=colour, cells=cells, player=player, score=coins[:1] - coins)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The world.

    policies  those that play, each as likely.
    said      how likely each slot is said in a short caption.
    """

    policies: tuple[Policy, ...] = rules.POLICIES
    said: float = 0.85

    def __post_init__(self) -> None:
        if not self.policies:
            raise ValueError("game: policies is empty; give one or more")

    @property
    def name(self) -> str:
        return "game"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        place = _PLACES[rng.integers(len(_PLACES))]
        colours = [colour for colour in colours_over(place) if colour != "yellow"]
        colour = colours[rng.integers(len(colours))]
        policy = self.policies[rng.integers(len(self.policies))]
        states = new_game(rng, setting, policy)
        return Scene(
            setting=setting,
            place=place,
            colour=colour,
            policy=policy,
            start=states[0],
            path=tuple(state.player for state in states),
        )

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        return (
            Caption(text=short_caption(scene, rng, said=self.said)),
            Caption(text=described(scene, rng), kind="descriptive"),
        )

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        cells = _boards(scene, times)
        colours = np.zeros((PLAYER + 1, 3), np.float32)
        colours[[EMPTY, WALL]] = PLACES[scene.place], _WALL_COLOUR
        colours[[COIN, PLAYER]] = COLOURS["yellow"], COLOURS[scene.colour]
        rows, columns, down, across = _pixels(height, width)
        distance = np.hypot(down[:, None], across)
        pictures = np.empty((PLAYER + 1, height, width, 3), np.float32)
        for number, colour in enumerate(colours):
            cover = np.ones_like(distance)
            if number in _RADII:
                radius = _RADII[number] * min(height / cells.shape[1], width / cells.shape[2])
                cover = np.clip(radius - distance + 0.5, 0, 1)
            pictures[number] = colours[EMPTY] + cover[..., None] * (colour - colours[EMPTY])
        flat = np.rint(pictures).astype(np.uint8)
        shown = cells[:, rows[:, None], columns]
        return flat[shown, np.arange(height)[:, None], np.arange(width)]

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> Play:
        return Play.of(_boards(scene, times), place=scene.place, colour=scene.colour)

    def read(self, frames: Frames) -> Play:
        place = place_of(frames)
        players = [colour for colour in colours_over(place) if colour != "yellow"]
        known = [
            PLACES[place],
            _WALL_COLOUR,
            COLOURS["yellow"],
            *(COLOURS[each] for each in players),
        ]
        differences = np.abs(_means(frames)[..., None, :] - np.array(known, np.float32)).sum(-1)
        nearest = differences.argmin(-1)
        cells = np.where(differences.min(-1) > _UNLIKE, UNCLEAR, np.minimum(nearest, PLAYER))
        seen = nearest[cells == PLAYER] - PLAYER
        colour = players[int(np.bincount(seen).argmax())] if len(seen) else ""
        return Play.of(cells.astype(np.int8), place=place, colour=colour)


def _pixels(height: int, width: int) -> tuple[np.ndarray, ...]:
    """Each row's and column's cell, and how many pixels they are from that cell's middle."""
    found = []
    for pixels, cells in zip((height, width), board_of(float(height), float(width)), strict=True):
        size = pixels / cells
        places = np.arange(pixels) + 0.5
        numbers = (places / size).astype(int)
        found.append((numbers, (places - (numbers + 0.5) * size).astype(np.float32)))
    (rows, down), (columns, across) = found
    return rows, columns, down, across


def _means(frames: Frames) -> Float[np.ndarray, "frames rows columns 3"]:
    """The mean colour in the middle of each cell."""
    height, width = frames.shape[1:3]
    rows, columns, down, across = _pixels(height, width)
    result = frames.astype(np.float32)
    for axis, (cells, offsets) in enumerate(((rows, down), (columns, across)), start=1):
        count = int(cells[-1]) + 1
        near = np.abs(offsets) <= max(0.5, _MIDDLE * len(cells) / count)
        weights = (cells == np.arange(count)[:, None]) & near
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return result


def _boards(scene: Scene, times: Times) -> Int[np.ndarray, "frames rows columns"]:
    """The board at each time."""
    steps = np.floor(np.asarray(times) * STEPS_PER_SECOND + 0.5 + 1e-6).astype(int)
    numbers, shown = np.unique(np.minimum(steps, len(scene.path) - 1), return_inverse=True)
    boards = np.empty((len(numbers), scene.start.rows, scene.start.columns), np.int8)
    for board, number in zip(boards, numbers.tolist(), strict=True):
        player, passed = scene.path[number], {*scene.path[: number + 1]}
        board[:] = dataclasses.replace(
            scene.start, player=player, coins=scene.start.coins - passed
        ).cells
    return boards[shown]
