"""The scenes of the world of the eater: the way of the mouth, and what it bites off when."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from sora_jax.data.worlds.shapes import Across
from sora_jax.data.worlds.world import FPS, Setting, Times

SIDES: dict[str, float] = {"right": 0.0, "below": 90.0, "left": 180.0, "above": 270.0}
"""From where a mouth comes: the angle, in degrees, from rightward to downward."""

FOOD, MOUTH = 0.22, 0.13
"""Radii, in units of the shorter side."""

HALF_BAND = 0.06
"""Half the width of a burger's band."""

WIDE = 40.0
"""Half the angle of the wedge when it is wide open, in degrees."""

BITE = 0.17
"""What part of the food a bite takes."""

_OUT = FOOD + MOUTH + 0.09
"""How far from the food's middle the mouth's is before and after a bite."""
_EDGE = 0.02
_FASTEST, _SLOWEST = 0.6, 0.25
_PLANS = (1, 0), (2, 0), (1, 1), (3, 0)
"""How many bites from one side, and then from another."""

Depth = Callable[[Across, Across], Across]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A food at `centre` (down, across), and a mouth that comes from `sides` in turn.

    It bites once from each, or, where it `passes`, goes round the food from the first to the last.
    `speed` is a second's; at time 0 as much is over as takes `begun` seconds.
    """

    setting: Setting
    place: str
    food: str
    mouth: str
    band: bool
    centre: tuple[float, float]
    sides: tuple[str, ...]
    passes: bool
    speed: float
    begun: float

    def mouths(self, times: Times) -> Float[np.ndarray, "frames 2"]:
        """(down, across) of the middle of the mouth at each time."""
        distance, angle, _ = self._polar(times)
        return np.asarray(self.centre) + distance[:, None] * _direction(angle)

    def bites(self) -> tuple[float, ...]:
        """When each bite is taken, in seconds."""
        way = _way(self.sides, self.passes)
        return tuple(float(each) for each in way[way[:, 3] == 0, 0] / self.speed - self.begun)

    def food_depth(self, times: Times, *, side: int) -> Depth:
        """For `paint`: the food less what is bitten off by each time, around `centre`."""
        bites = np.asarray(self.bites())
        spots = ((self.mouths(bites) - self.centre) * side).astype(np.float32)
        done = bites[:, None] <= np.asarray(times)
        return functools.partial(_food_depth, side=side, spots=spots, done=done)

    def mouth_depth(self, times: Times, *, side: int) -> Depth:
        """For `paint`: the mouth with its wedge, around its middle."""
        _, angle, opening = self._polar(times)
        return functools.partial(
            _mouth_depth, side=side, way=-_direction(angle), opening=opening[:, None, None]
        )

    def _polar(self, times: Times) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The mouth's distance and angle from the food's middle, and how wide it is, 0..1."""
        way = _way(self.sides, self.passes)
        now = (np.asarray(times) + self.begun) * self.speed
        distance, angle, opening = (np.interp(now, way[:, 0], each) for each in way.T[1:])
        return distance, angle, opening


def _food_depth(
    down: Across,
    across: Across,
    *,
    side: int,
    spots: Float[np.ndarray, "bites 2"],
    done: Bool[np.ndarray, "bites frames"],
) -> Across:
    inside = FOOD * side - np.sqrt(down**2 + across**2)
    for each, spot in zip(done, spots, strict=True):
        off = np.sqrt((down - spot[0]) ** 2 + (across - spot[1]) ** 2) - MOUTH * side
        inside = np.where(each[:, None, None], np.minimum(inside, off), inside)
    return inside


def _mouth_depth(
    down: Across,
    across: Across,
    *,
    side: int,
    way: Float[np.ndarray, "frames 2"],
    opening: Float[np.ndarray, "frames 1 1"],
) -> Across:
    sine, cosine = way.T[..., None, None]
    along, aside = down * sine + across * cosine, np.abs(down * cosine - across * sine)
    half = np.radians(WIDE) * opening
    # Where it shuts, the jaws are a pixel thicker, so that they leave no slit.
    jaws = aside * np.cos(half) - along * np.sin(half) + (1 - opening)
    disc = MOUTH * side - np.sqrt(down**2 + across**2)
    return np.minimum(disc, np.maximum(jaws, -along))


def random_scene(
    rng: np.random.Generator,
    setting: Setting,
    *,
    place: str,
    food: str,
    mouth: str,
    band: bool,
    passes: bool,
) -> Scene:
    """A scene with as many bites as there is time for, one at least, or none where it passes."""
    names = list(SIDES)
    first = int(rng.integers(len(names)))
    one, other = names[first], names[(first + int(rng.choice((-1, 1)))) % len(names)]
    sides = (one, other) if passes else _plan(rng, setting.seconds, one, other)
    length = float(_way(sides, passes)[-1, 0])
    seconds = setting.seconds or length / 0.4
    return Scene(
        setting=setting,
        place=place,
        food=food,
        mouth=mouth,
        band=band,
        centre=_centre(rng, setting, sides),
        sides=sides,
        passes=passes,
        speed=float(np.clip(length / seconds, _SLOWEST, _FASTEST)),
        begun=0.0 if setting.seconds else float(rng.uniform(0, seconds)),
    )


def _plan(rng: np.random.Generator, seconds: float, one: str, other: str) -> tuple[str, ...]:
    plans = [(one,) * count + (other,) * more for count, more in _PLANS]
    # By the last frame, at 8 a second, the mouth has left the last bite, nearly as far as it goes.
    far = _FASTEST * (seconds - 1 / FPS) + 0.12 if seconds else np.inf
    fitting = [plan for plan in plans if _way(plan, False)[-1, 0] <= far] or plans[:1]
    return fitting[rng.integers(len(fitting))]


def _centre(
    rng: np.random.Generator, setting: Setting, sides: tuple[str, ...]
) -> tuple[float, float]:
    """A place for the food that leaves room for the mouth on those sides of it."""
    room = np.full((2, 2), FOOD + _EDGE)
    for side in sides:
        down, across = np.rint(_direction(np.array([SIDES[side]]))[0]).astype(int)
        axis, end = (0, down) if down else (1, across)
        room[axis, max(end, 0)] = _OUT + MOUTH + _EDGE
    high = np.array([setting.height, setting.width]) - room[:, 1]
    spot = rng.uniform(room[:, 0], high)
    return float(spot[0]), float(spot[1])


def _direction(angle: np.ndarray) -> Float[np.ndarray, "angles 2"]:
    turned = np.radians(angle)
    return np.stack([np.sin(turned), np.cos(turned)], -1)


@functools.lru_cache(maxsize=64)
def _way(sides: tuple[str, ...], passes: bool) -> Float[np.ndarray, "knots 4"]:
    """The way of a mouth: its length up to each knot, distance, angle and opening there."""
    angle = SIDES[sides[0]]
    knots = [(0.0, _OUT, angle, 1.0)]
    for index, side in enumerate(sides):
        turn = (SIDES[side] - angle + 180) % 360 - 180
        angle += turn
        if turn:
            knots.append((knots[-1][0] + np.radians(abs(turn)) * _OUT, _OUT, angle, 1.0))
        if not passes:
            near = _depths()[sides[:index].count(side)]
            knots.append((knots[-1][0] + _OUT - near, near, angle, 0.0))
            knots.append((knots[-1][0] + _OUT - near, _OUT, angle, 1.0))
    return np.array(knots)


@functools.cache
def _depths() -> tuple[float, ...]:
    """How near the mouth comes in the first, second and third bite from one side.

    So that each takes the part BITE of the food, whatever the earlier ones have taken.
    """
    line = np.linspace(-FOOD, FOOD, 401)
    down, across = (
        each[line[:, None] ** 2 + line**2 < FOOD**2] for each in np.meshgrid(line, line)
    )
    taken, found = np.zeros(down.shape, bool), []
    for count in (1, 2, 3):
        low, high = 0.0, FOOD + MOUTH
        for _ in range(20):
            near = (low + high) / 2
            both = taken | (down**2 + (across - near) ** 2 < MOUTH**2)
            low, high = (near, high) if both.mean() > count * BITE else (low, near)
        found.append(near)
        taken = both
    return tuple(found)
