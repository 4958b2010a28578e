"""Scenes of one figure in several shots."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.shapes import EXTENT, KINDS, Kind
from sora_jax.data.worlds.sprites import MOTIONS, WAYS, Motion
from sora_jax.data.worlds.world import FPS, Setting, Times

Size = Literal["small", "large"]

SIZES: dict[Size, float] = {"small": 0.17, "large": 0.24}
"""The radius of a figure's body."""
HATS: tuple[Kind, ...] = ("circle", "square", "triangle")
ATTRIBUTES = ("body", "colour", "size", "hat", "hat colour", "eye colour")
"""In the order of a state: indices into KINDS, COLOURS, SIZES, HATS, COLOURS and COLOURS."""
HAT, EYE = 0.55, 0.3
"""The radius of the hat and of the eye, as parts of the body's."""
LEAST_FRAMES = 3
"""No shot is shorter, at 8 frames a second."""

_SPEEDS = (0.2, 0.5)
_APART = 0.12
_TRIES = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A body with one eye in its middle, and a hat on top of it; see ATTRIBUTES."""

    body: Kind
    colour: str
    size: Size
    hat: Kind
    hat_colour: str
    eye_colour: str

    @property
    def radius(self) -> float:
        """Of the body."""
        return SIZES[self.size]

    @property
    def hat_height(self) -> float:
        """How far above the body's middle the hat's middle is."""
        return self.radius * (EXTENT[self.body][0] + HAT * EXTENT[self.hat][1])

    @property
    def reach(self) -> tuple[float, float, float]:
        """How far it reaches above, below and beside the body's middle."""
        above = self.hat_height + self.radius * HAT * EXTENT[self.hat][0]
        return above, self.radius * EXTENT[self.body][1], self.radius * EXTENT[self.body][2]

    @property
    def attributes(self) -> Int[np.ndarray, "6"]:
        """As a state has them."""
        colours = list(COLOURS)
        return np.array(
            [
                KINDS.index(self.body),
                colours.index(self.colour),
                list(SIZES).index(self.size),
                HATS.index(self.hat),
                colours.index(self.hat_colour),
                colours.index(self.eye_colour),
            ]
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shot:
    """From `begin` (seconds) on the body's middle moves from `start` (down, across)."""

    place: str
    begin: float
    motion: Motion
    start: tuple[float, float]
    speed: float

    def at(self, times: Times) -> Float[np.ndarray, "frames 2"]:
        """(down, across) of the body's middle at each time."""
        way = np.asarray(WAYS[self.motion]) * self.speed
        return np.asarray(self.start) + way * (np.asarray(times) - self.begin)[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A figure in shots, one after the other."""

    setting: Setting
    figure: Figure
    shots: tuple[Shot, ...]

    def shot_at(self, times: Times) -> Int[np.ndarray, " frames"]:
        """The number of the shot at each time, from 0 on."""
        begins = [shot.begin for shot in self.shots]
        return np.searchsorted(begins, np.asarray(times), side="right") - 1

    def centres_at(self, times: Times) -> Float[np.ndarray, "frames 2"]:
        """(down, across) of the body's middle at each time."""
        all_shots = np.stack([shot.at(times) for shot in self.shots])
        return all_shots[self.shot_at(times), np.arange(len(times))]


def anything(rng: np.random.Generator, setting: Setting, *, most: int) -> Scene:
    """A scene of two to `most` shots; of one where it is too short for more, or still."""
    begins = _begins(rng, round(setting.seconds * FPS), most)
    places: list[str] = []
    for _ in begins:
        others = [place for place in PLACES if places[-1:] != [place]]
        places.append(others[rng.integers(len(others))])
    figure = _figure(rng, places)
    shots: list[Shot] = []
    for place, begin, end in zip(places, begins, [*begins[1:], setting.seconds], strict=True):
        shots.append(_shot(rng, setting, figure, place, begin, end, shots[-1:]))
    return Scene(setting=setting, figure=figure, shots=tuple(shots))


def _begins(rng: np.random.Generator, frames: int, most: int) -> list[float]:
    """When shots begin: at 0, and half a frame before the first frame of each other one.

    So a cut is never at the very time of a frame, where rounding would decide.
    """
    most = min(most, frames // LEAST_FRAMES)
    count = int(rng.integers(2, most + 1)) if most > 1 else 1
    spare = np.sort(rng.integers(0, frames - LEAST_FRAMES * count + 1, count - 1))
    firsts = spare + LEAST_FRAMES * np.arange(1, count)
    return [0.0, *((firsts - 0.5) / FPS).tolist()]


def _figure(rng: np.random.Generator, places: list[str]) -> Figure:
    """A figure that stands out from all the places; its colours are all different."""
    colours = [c for c in COLOURS if all(c in colours_over(place) for place in places)]
    rng.shuffle(colours)
    eyes = [colour for colour in COLOURS if colour not in colours[:2]]
    return Figure(
        body=KINDS[rng.integers(len(KINDS))],
        colour=colours[0],
        size=list(SIZES)[rng.integers(len(SIZES))],
        hat=HATS[rng.integers(len(HATS))],
        hat_colour=colours[1],
        eye_colour=eyes[rng.integers(len(eyes))],
    )


def _shot(
    rng: np.random.Generator,
    setting: Setting,
    figure: Figure,
    place: str,
    begin: float,
    end: float,
    before: list[Shot],
) -> Shot:
    """A shot within the picture, which begins elsewhere than the one before it ends."""
    motions: list[Motion] = [each for each in MOTIONS if not before or each != before[0].motion]
    above, below, beside = figure.reach
    low = np.array([above, beside])
    high = np.array([setting.height - below, setting.width - beside])
    for _ in range(_TRIES):
        motion, seconds = motions[rng.integers(len(motions))], end - begin
        way = np.asarray(WAYS[motion])
        speed = rng.uniform(*_SPEEDS) if motion != "still" else 0.0
        if seconds and motion != "still":
            speed = min(speed, float(((high - low) * np.abs(way)).sum()) / seconds)
        travel = way * speed * seconds
        first, last = low + np.maximum(0, -travel), high - np.maximum(0, travel)
        start = first + (last - first) * rng.random(2)
        shot = Shot(
            place=place,
            begin=begin,
            motion=motion,
            start=(float(start[0]), float(start[1])),
            speed=float(speed),
        )
        ended = before[0].at(np.array([begin]))[0] if before else start + 1
        if np.abs(ended - start).max() >= _APART:
            return shot
    raise AssertionError("one shot in a few begins elsewhere")
