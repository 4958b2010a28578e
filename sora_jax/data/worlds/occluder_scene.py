"""Scenes in which shapes pass behind a bar, made so that all of it happens within the clip."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal

import numpy as np
from jaxtyping import Float

from sora_jax.data.worlds.palette import PLACES, colours_over
from sora_jax.data.worlds.shapes import EXTENT, KINDS, Kind
from sora_jax.data.worlds.world import FPS, Setting, Times

Way = Literal["left", "right"]

LONGEST = 12
"""No shape is wholly hidden for more frames, at 8 a second, nor for less than about one. Clips of
more than `_LONG` seconds, in which shapes are slower, have it longer in proportion."""

RADII = (0.1, 0.125)
_FASTEST = 0.64
# How far a shape is from the bar in the first frame and in the last, at least.
_LEAD = 0.045
_BETWEEN = 0.02
# How much wider than a shape a bar is, at least.
_LEAST_HIDDEN = 0.03
# A clip that is shorter is a part of one that lasts so long, in seconds.
_WHOLE = 2.125
_LONG = 8.0
_TRIES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mover:
    """One shape; `start` (down, across) is where its middle is at first, `speed` is a second's."""

    kind: Kind
    colour: str
    radius: float
    way: Way
    start: tuple[float, float]
    speed: float

    @property
    def half(self) -> float:
        """Half its width."""
        return EXTENT[self.kind][2] * self.radius

    def at(self, times: Times) -> Float[np.ndarray, "frames 2"]:
        """(down, across) of the middle at each time."""
        velocity = np.array([0.0, self.speed if self.way == "right" else -self.speed])
        return np.asarray(self.start) + velocity * np.asarray(times)[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """Shapes of different colours and a bar (its left and right edge) before them, over a place."""

    setting: Setting
    place: str
    bar: tuple[float, float]
    movers: tuple[Mover, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passage:
    """When a shape passes the bar, in seconds from the beginning (negative before it).

    It touches the bar, enters wholly, emerges (is first seen again), and leaves: is out wholly.
    """

    touches: float
    enters: float
    emerges: float
    leaves: float


def passage_of(mover: Mover, bar: tuple[float, float]) -> Passage:
    """When a shape passes a bar: it leaves at the time of entry + the bar's width / its speed."""
    across, half = mover.start[1], mover.half
    way = bar[0] - across if mover.way == "right" else across - bar[1]
    enters, width = (way + half) / mover.speed, (bar[1] - bar[0]) / mover.speed
    return Passage(
        touches=(way - half) / mover.speed,
        enters=enters,
        emerges=enters + width - 2 * half / mover.speed,
        leaves=enters + width,
    )


def anything(rng: np.random.Generator, setting: Setting, *, count: int) -> Scene:
    """A scene of `count` shapes.

    A clip of two seconds and more shows each of them whole, hidden and whole again; a shorter one
    is any part of such a clip.
    """
    seconds = setting.seconds if setting.seconds >= 2 else _WHOLE
    begin = rng.uniform(0, seconds - setting.seconds) if setting.seconds < 2 else 0.0
    place = list(PLACES)[rng.integers(len(PLACES))]
    colours = list(colours_over(place))
    rng.shuffle(colours)
    rows = _rows(rng, setting.height, count)
    for _ in range(_TRIES):
        bar = _bar(rng, setting.width, seconds)
        found = (
            _mover(rng, colour, row, bar, setting.width, seconds)
            for colour, row in zip(colours, rows, strict=False)
        )
        movers = tuple(_later(mover, begin) for mover in found if mover is not None)
        if len(movers) == count:
            return Scene(setting=setting, place=place, bar=bar, movers=movers)
    raise AssertionError("one bar in a few lets shapes pass")


def _rows(rng: np.random.Generator, height: float, count: int) -> list[tuple[float, float]]:
    """For each shape the part of the height in which it stays, (top, bottom)."""
    edges = [height * row / count for row in range(count + 1)]
    rows = [(top + _BETWEEN, bottom - _BETWEEN) for top, bottom in itertools.pairwise(edges)]
    rng.shuffle(rows)
    return rows


def _fastest(half: float, width: float, seconds: float) -> float:
    """The speed at which a shape just stays within the picture."""
    return min(_FASTEST, (width - 2 * half) / seconds)


def _bar(rng: np.random.Generator, width: float, seconds: float) -> tuple[float, float]:
    """A bar that leaves room on both sides, for some shape."""
    half = rng.uniform(EXTENT["square"][2] * RADII[0], RADII[1])
    beside = _beside(half, _fastest(half, width, seconds))
    most = width - 2 * beside - 2 * half
    size = 2 * half + rng.uniform(_LEAST_HIDDEN, max(_LEAST_HIDDEN, most))
    left = rng.uniform(beside, max(beside, width - size - beside))
    return float(left), float(left + size)


def _beside(half: float, fastest: float) -> float:
    """What room a whole shape needs beside the bar, and for its way in the last frame's time."""
    return 2 * half + _LEAD + fastest / FPS


def _mover(
    rng: np.random.Generator,
    colour: str,
    row: tuple[float, float],
    bar: tuple[float, float],
    width: float,
    seconds: float,
) -> Mover | None:
    """A shape that passes the bar within its time; None where the bar does not let it."""
    kind, radius = KINDS[rng.integers(len(KINDS))], float(rng.uniform(*RADII))
    half, last = EXTENT[kind][2] * radius, seconds - 1 / FPS
    fastest = _fastest(half, width, seconds)
    hidden = bar[1] - bar[0] - 2 * half
    fast = min(fastest, FPS * hidden)
    longest = LONGEST * max(1, seconds / _LONG)
    slow = max((hidden + 4 * half + 2 * _LEAD) / last, FPS * hidden / longest)
    beside = _beside(half, fastest)
    if slow > fast or bar[0] < beside or width - bar[1] < beside:
        return None
    speed = FPS * hidden / rng.uniform(FPS * hidden / fast, FPS * hidden / slow)
    way: Way = "right" if rng.random() < 0.5 else "left"
    near, far = bar if way == "right" else (width - bar[1], width - bar[0])
    first = max(half, far + half + _LEAD - speed * last)
    across = rng.uniform(first, min(near - half - _LEAD, width - half - speed * seconds))
    down = rng.uniform(row[0] + radius, row[1] - radius)
    return Mover(
        kind=kind,
        colour=colour,
        radius=radius,
        way=way,
        start=(float(down), float(across if way == "right" else width - across)),
        speed=float(speed),
    )


def _later(mover: Mover, begin: float) -> Mover:
    """The shape as it is `begin` seconds later."""
    down, across = mover.at(np.array([begin]))[0]
    return dataclasses.replace(mover, start=(float(down), float(across)))
