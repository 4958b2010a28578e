"""How balls fly in a box, from contact to contact.

Between contacts a ball is in free fall, y(t) = y + v t + GRAVITY t² / 2, and so is every other: the
moments of all contacts are roots of quadratic equations, and nothing depends on a time step. At a
contact the speed along the line of contact is turned round and multiplied by the restitution.
Balls are of one material, of mass in proportion to their area, and do not spin.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from sora_jax.data.worlds.world import Setting, Times

GRAVITY = 0.5
"""Of every scene, downward, in shorter sides per second per second."""
FASTEST = 0.8
"""No ball of a scene touches the box or another faster than this, in shorter sides per second."""

Start = Literal["dropped", "thrown left", "thrown right"]
Thing = int | Literal["floor", "ceiling", "wall"]

# The least speed after a contact, which stands in for rest: such bounces are 0.0004 sides high.
_LEAST_SPEED = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball:
    """One ball; its middle is at `start` (down, across) at first and moves with `velocity`."""

    colour: str
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float]

    @property
    def how(self) -> Start:
        """How it starts."""
        if self.velocity == (0.0, 0.0):
            return "dropped"
        return "thrown left" if self.velocity[1] < 0 else "thrown right"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """Balls of different colours in a box, whose sides are the picture's, before a place.

    restitution  of all contacts: the share of speed that is left.
    begin        the picture begins so many seconds after the balls started.
    """

    setting: Setting
    place: str
    restitution: float
    balls: tuple[Ball, ...]
    begin: float = 0.0

    @property
    def end(self) -> float:
        """In seconds after the balls started."""
        return self.begin + self.setting.seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contact:
    """A ball (an index) touches another, or a side of the box.

    time   in seconds from the picture's beginning.
    speed  against each other just before, in shorter sides per second; of the box, straight on.
    """

    time: float
    ball: int
    other: Thing
    speed: float


def centres_at(scene: Scene, times: Times) -> Float[np.ndarray, "frames balls 2"]:
    """(down, across) of the middle of each ball at each time, in shorter sides."""
    moments = np.asarray(times) + scene.begin
    flights = _flights(scene, _horizon(max(moments.max(initial=0.0), scene.end)))
    piece = np.searchsorted(flights.times, moments, side="right") - 1
    since = (moments - flights.times[piece])[:, None, None]
    fallen = np.array([GRAVITY / 2, 0.0]) * since**2
    return flights.centre[piece] + flights.velocity[piece] * since + fallen


def contacts(scene: Scene) -> tuple[Contact, ...]:
    """What touches what within the scene's time, in order."""
    found = _flights(scene, _horizon(scene.end)).contacts
    return tuple(each for each in found if 0 <= each.time <= scene.setting.seconds)


def collisions(scene: Scene) -> tuple[tuple[int, int], ...]:
    """The pairs of balls that hit each other within the scene's time, by their first time."""
    pairs = [(each.ball, each.other) for each in contacts(scene) if isinstance(each.other, int)]
    return tuple(dict.fromkeys(pairs))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Flights:
    """From `times` on, up to the next, every ball is in free fall from `centre`, `velocity`."""

    times: Float[np.ndarray, " pieces"]
    centre: Float[np.ndarray, "pieces balls 2"]
    velocity: Float[np.ndarray, "pieces balls 2"]
    contacts: tuple[Contact, ...]


def _horizon(seconds: float) -> float:
    """Rounded up, so that what was found can be found again."""
    return math.ceil(4 * seconds) / 4


@functools.lru_cache(maxsize=64)
def _flights(scene: Scene, horizon: float) -> _Flights:
    """A scene from contact to contact; a longer horizon only adds pieces."""
    sides, balls = (scene.setting.height, scene.setting.width), scene.balls
    radii = [ball.radius for ball in balls]
    centre, velocity = [[*ball.start] for ball in balls], [[*ball.velocity] for ball in balls]
    time, times, found = 0.0, [0.0], []
    centres, velocities = [[*map(tuple, centre)]], [[*map(tuple, velocity)]]
    while True:
        wait, ball, other = min(_coming(centre, velocity, radii, sides), key=lambda each: each[0])
        time += wait
        if time > horizon:
            break
        for place, speed in zip(centre, velocity, strict=True):
            place[0] += speed[0] * wait + GRAVITY / 2 * wait**2
            place[1] += speed[1] * wait
            speed[0] += GRAVITY * wait
        if isinstance(other, int):
            met = math.dist(velocity[ball], velocity[other])
            _collide(centre, velocity, radii, (ball, other), scene.restitution)
        else:
            met = abs(velocity[ball][other == "wall"])
            _bounce(velocity[ball], other, scene.restitution)
        found.append(Contact(time=time - scene.begin, ball=ball, other=other, speed=met))
        times.append(time)
        centres.append([*map(tuple, centre)])
        velocities.append([*map(tuple, velocity)])
    return _Flights(
        times=np.array(times),
        centre=np.array(centres),
        velocity=np.array(velocities),
        contacts=tuple(found),
    )


def _coming(
    centre: list[list[float]],
    velocity: list[list[float]],
    radii: list[float],
    sides: tuple[float, float],
) -> list[tuple[float, int, Thing]]:
    """(seconds until then, ball, what it touches) of all that would come next."""
    coming = []
    for ball, ((down, across), (fall, slide), radius) in enumerate(
        zip(centre, velocity, radii, strict=True)
    ):
        below, above = sides[0] - radius - down, down - radius
        floor = (math.sqrt(max(0.0, fall**2 + 2 * GRAVITY * below)) - fall) / GRAVITY
        coming.append((max(0.0, floor), ball, "floor"))
        if fall < 0 and fall**2 >= 2 * GRAVITY * above:
            ceiling = (-fall - math.sqrt(fall**2 - 2 * GRAVITY * above)) / GRAVITY
            coming.append((max(0.0, ceiling), ball, "ceiling"))
        if slide:
            room = sides[1] - radius - across if slide > 0 else across - radius
            coming.append((max(0.0, room) / abs(slide), ball, "wall"))
    for one, two in itertools.combinations(range(len(radii)), 2):
        apart = [b - a for a, b in zip(centre[one], centre[two], strict=True)]
        speed = [b - a for a, b in zip(velocity[one], velocity[two], strict=True)]
        closing = -(apart[0] * speed[0] + apart[1] * speed[1])
        square = speed[0] ** 2 + speed[1] ** 2
        free = apart[0] ** 2 + apart[1] ** 2 - (radii[one] + radii[two]) ** 2
        if closing > 0 and closing**2 >= square * free:
            wait = (closing - math.sqrt(closing**2 - square * free)) / square
            coming.append((max(0.0, wait), one, two))
    return coming


def _bounce(velocity: list[float], other: str, restitution: float) -> None:
    if other == "wall":
        velocity[1] *= -restitution
    else:
        up = -1 if other == "floor" else 1
        velocity[0] = up * max(_LEAST_SPEED, restitution * abs(velocity[0]))


def _collide(
    centre: list[list[float]],
    velocity: list[list[float]],
    radii: list[float],
    pair: tuple[int, int],
    restitution: float,
) -> None:
    """Two balls push each other apart along the line between them, with equal momentum."""
    one, two = pair
    apart = [b - a for a, b in zip(centre[one], centre[two], strict=True)]
    length = math.hypot(*apart)
    line = [each / length for each in apart]
    closing = sum(
        (a - b) * part for a, b, part in zip(velocity[one], velocity[two], line, strict=True)
    )
    change = closing + max(_LEAST_SPEED, restitution * closing)
    masses = radii[one] ** 2, radii[two] ** 2
    for axis in (0, 1):
        velocity[one][axis] -= change * line[axis] * masses[1] / sum(masses)
        velocity[two][axis] += change * line[axis] * masses[0] / sum(masses)
