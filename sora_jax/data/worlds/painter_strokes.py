"""The strokes of the world of the painter: their ways, and what of them is painted by a moment."""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from sora_jax.data.worlds.world import Setting, Times

Kind = Literal["line", "arc", "zigzag", "wave"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WAYS: dict[str, tuple[int, int]] = {
    "to the left": (0, -1),
    "to the right": (0, 1),
    "upward": (-1, 0),
    "downward": (1, 0),
}
"""(down, across)."""

BRUSH, CORE, STROKE = 0.12, 0.06, 0.055
"""Radii of the brush with its rim and of its core, and half the width of a stroke."""

_MARGIN = BRUSH + 0.02
_FASTEST, _SLOWEST = 0.6, 0.15
_SWINGING = 1.0
"""How many seconds a wave or a zigzag takes at least."""
_LONGEST = 4.125
"""How many seconds a stroke takes at most: the picture has no room for one that takes longer."""
_HALF_WAVE = 0.2
_TRIES = 40
_SAMPLES = 129


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stroke:
    """One stroke, from `begin` on for `seconds`.

    It leads `length` far from `start` (down, across) in its way, and swings aside by `swing`,
    to the way's right first (to its left where negative); `swings` times if wave or zigzag.
    """

    kind: Kind
    colour: str
    way: str
    start: tuple[float, float]
    length: float
    swing: float
    swings: int
    begin: float
    seconds: float

    @property
    def points(self) -> Float[np.ndarray, "samples 2"]:
        """Places along the stroke, an equal length of way apart."""
        return _points(self)

    @property
    def end(self) -> Float[np.ndarray, "2"]:
        """(down, across) of the last of these points."""
        return self.points[-1]

    @property
    def moments(self) -> Float[np.ndarray, " samples"]:
        """When the brush is at each of these points."""
        return self.begin + self.seconds * np.linspace(0, 1, _SAMPLES)

    @property
    def way_length(self) -> float:
        """How long the way is, bends and all."""
        return float(np.hypot(*np.diff(self.points, axis=0).T).sum())


def cover(
    stroke: Stroke, now: Times, *, height: int, width: int
) -> Float[np.ndarray, "frames height width"]:
    """How much of each pixel the stroke covers by each moment, 0..1.

    A stroke is a row of discs, each there from the moment on that the brush is at its place.
    """
    side, frames = min(height, width), len(now)
    radius, points = STROKE * side, stroke.points * side
    order = np.argsort(now)
    first = np.searchsorted(now[order], stroke.moments - 1e-9)
    points, first = points[first < frames], first[first < frames]
    size = np.arange(2 * int(np.ceil(radius + 1)) + 1)
    corner = np.rint(points - len(size) / 2).astype(int)
    rows, columns = corner[:, :1] + size, corner[:, 1:] + size
    down = (rows + 0.5 - points[:, :1]).astype(np.float32)[:, :, None]
    across = (columns + 0.5 - points[:, 1:]).astype(np.float32)[:, None, :]
    disc = np.clip(np.float32(radius + 0.5) - np.sqrt(down**2 + across**2), 0, 1)
    result = np.zeros(frames * height * width, np.float32)
    place = (first[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    np.maximum.at(result, place.ravel(), disc.ravel())
    result = np.maximum.accumulate(result.reshape(frames, height, width), 0)
    return result[np.argsort(order)]


def distance(
    centre: Float[np.ndarray, "frames 2"], *, height: int, width: int
) -> Float[np.ndarray, "frames height width"]:
    """How far each pixel is from the centre, in pixels."""
    down = np.arange(height)[:, None] + 0.5 - centre[:, :1, None]
    return np.hypot(down, np.arange(width) + 0.5 - centre[:, 1:, None])


def random_strokes(
    rng: np.random.Generator, setting: Setting, colours: tuple[str, ...], *, seconds: float
) -> tuple[Stroke, ...]:
    """A stroke of each colour, one after the other, that meet only where one ends.

    They take `seconds` in all, or less where these are more than strokes can take; then the brush
    rests. Where there is no room for all of them, of the first colour alone.
    """
    for _ in range(_TRIES):
        strokes = _together(rng, setting, colours, min(seconds / len(colours), _LONGEST))
        if strokes:
            return strokes
        colours = colours[:1]
    raise AssertionError("one stroke in a few fits")


def _together(
    rng: np.random.Generator, setting: Setting, colours: tuple[str, ...], seconds: float
) -> tuple[Stroke, ...]:
    """Strokes of so many seconds each; none where there is no room for all of them."""
    kinds: list[Kind] = [_kind(rng, seconds) for _ in colours]
    for _ in range(_TRIES):
        strokes: list[Stroke] = []
        for colour, kind in zip(colours, kinds, strict=True):
            last = strokes[-1] if strokes else None
            stroke = _anywhere(rng, setting, colour, kind, last, seconds)
            if not _fits(stroke, last, setting):
                break
            strokes.append(stroke)
        else:
            return tuple(strokes)
    return ()


def _kind(rng: np.random.Generator, seconds: float) -> Kind:
    return KINDS[rng.integers(len(KINDS) if seconds >= _SWINGING else 2)]


@functools.lru_cache(maxsize=256)
def _points(stroke: Stroke) -> Float[np.ndarray, "samples 2"]:
    part = np.linspace(0, 1, 2 * _SAMPLES)
    phase = np.pi * stroke.swings * part
    aside = {
        "line": lambda: 0 * part,
        "arc": lambda: 4 * part * (1 - part),
        "zigzag": lambda: np.arcsin(np.sin(phase)) * 2 / np.pi,
        "wave": lambda: np.sin(phase),
    }[stroke.kind]()
    way = np.asarray(WAYS[stroke.way])
    right = np.array([way[1], -way[0]])
    points = stroke.length * part[:, None] * way + stroke.swing * aside[:, None] * right
    length = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    even = np.linspace(0, length[-1], _SAMPLES)
    return np.stack([np.interp(even, length, each) for each in points.T], 1) + stroke.start


def _anywhere(
    rng: np.random.Generator,
    setting: Setting,
    colour: str,
    kind: Kind,
    last: Stroke | None,
    seconds: float,
) -> Stroke:
    """A stroke from where the last one ends, not back along it, or from anywhere."""
    low, high = np.full(2, _MARGIN), np.array([setting.height, setting.width]) - _MARGIN
    back = None if last is None else tuple(-part for part in WAYS[last.way])
    ways = [way for way in WAYS if WAYS[way] != back]
    way = ways[rng.integers(len(ways))]
    step = np.asarray(WAYS[way])
    room = float(np.abs(step) @ (high - low))
    if last is not None:
        # Up to the margin, from where it starts.
        room = float(np.abs(step) @ np.where(step > 0, high - last.end, last.end - low))
    longest = min(room, _FASTEST * seconds)
    shortest = min(2 * _HALF_WAVE, longest) if kind in ("zigzag", "wave") else 0.4 * longest
    length = float(rng.uniform(shortest, longest))
    swings = 2 + int(rng.integers(max(1, int(length / _HALF_WAVE) - 1)))
    swing = {
        "line": 0.0,
        "arc": rng.uniform(0.25, 0.6) * length,
        "zigzag": rng.uniform(0.4, 0.6) * length / swings,
        "wave": rng.uniform(0.4, 0.6) * length / swings,
    }[kind]
    travel = step * length
    start = rng.uniform(low + np.maximum(0, -travel), high - np.maximum(0, travel))
    if last is not None:
        start = last.end
    return Stroke(
        kind=kind,
        colour=colour,
        way=way,
        start=(float(start[0]), float(start[1])),
        length=length,
        swing=float(swing * rng.choice((-1, 1))),
        swings=swings,
        begin=last.begin + last.seconds if last else 0.0,
        seconds=seconds,
    )


def _fits(stroke: Stroke, last: Stroke | None, setting: Setting) -> bool:
    """Whether it stays within the picture, is no faster than it may, and clear of the last one."""
    points, high = stroke.points, np.array([setting.height, setting.width]) - _MARGIN
    if (points < _MARGIN - 1e-9).any() or (points > high + 1e-9).any():
        return False
    if not _SLOWEST * stroke.seconds <= stroke.way_length <= _FASTEST * stroke.seconds:
        return False
    if stroke.kind in ("zigzag", "wave") and stroke.length / stroke.swings < _HALF_WAVE - 0.02:
        return False
    if last is None:
        return True
    gaps = np.hypot(*(points[::4, None] - last.points[None, ::4]).transpose(2, 0, 1))
    part = np.linspace(0, 1, _SAMPLES)[::4]
    way = part[:, None] * stroke.way_length + (1 - part) * last.way_length
    return bool((gaps[way > 3 * BRUSH] > 2 * STROKE + 0.06).all())
