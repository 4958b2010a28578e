"""How a disc falls, and how it breaks into wedges or bounces: positions of a scene at any time.

Everything is in closed form. A thing of glass falls with `GRAVITY`, and where it hits the floor
becomes wedges about its middle. Each flies on a parabola to its landing, turning onto a flat side,
and slides to rest; where a parabola or a turn would take it into the floor, it slides over it. A
ball of rubber comes back with `BOUNCE` of its speed, until its hops are too small to see.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from sora_jax.data.worlds.world import Times

GRAVITY = 0.6
"""Shorter sides for each second squared: slow, as of something large that is seen from afar."""
BOUNCE = 0.7
_HOPS = 6
SLIDE = 0.2
"""Seconds that a wedge slides after it has landed."""

_UNEVEN = 0.15
_LANDING = (0.45, 0.75)
"""Seconds to the landing of the lowest and of the highest pieces,"""
_FASTEST = 0.7
"""or more, so that none goes further in a second than this."""
_GAPS = (0.06, 0.11)
_MARGIN = 0.02
_MOST_OVERLAP = 0.02
_SOFT = 0.003
_POINTS = 16
_MOMENTS = np.linspace(0, 1, 11)[1:]
_AWAY = np.sqrt((np.arange(5) + 0.5) / 5).repeat(6)
_ASIDE = np.tile((np.arange(6) + 0.5) / 3 - 1, 5)
"""Points that stand for equal parts of a wedge's area: away from the tip, and to the side."""

Series = Float[np.ndarray, " frames"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wedge:
    """A piece of a disc of radius `radius`: a circle's sector of the angle 2 x `half`, in radians.

    Angles are of its middle line from the tip on, 0 to the right and growing downward. It begins
    at angle `angle` with its tip at the disc's middle, and ends `turn` further with its centre of
    mass at `rest` across. `landing` is how many seconds after the impact it lands; one that lies on
    the floor at first slides over it all the time.
    """

    radius: float
    half: float
    angle: float
    turn: float
    rest: float
    landing: float

    def outline(self, pose: tuple[Series, ...]) -> Float[np.ndarray, "frames points 2"]:
        """Points (down, across) all along its edge, in a pose."""
        down, across, angle = (each[:, None] for each in pose)
        along = np.linspace(0, self.radius, _POINTS)
        arc = np.linspace(-self.half, self.half, _POINTS)
        away = np.concatenate([along, np.full(_POINTS, self.radius), along])
        angles = angle + np.concatenate([arc[:1].repeat(_POINTS), arc, arc[-1:].repeat(_POINTS)])
        return np.stack(
            [
                down - self.middle * np.sin(angle) + away * np.sin(angles),
                across - self.middle * np.cos(angle) + away * np.cos(angles),
            ],
            -1,
        )

    @property
    def lies(self) -> bool:
        """Whether it is the piece that touches the floor at the impact."""
        return bool(np.cos(self.angle - np.pi / 2) >= np.cos(self.half))

    @property
    def area(self) -> float:
        """In units of the shorter side, squared."""
        return self.half * self.radius**2

    @property
    def middle(self) -> float:
        """How far from its tip its centre of mass is."""
        return middle_of(self.radius, self.half)

    def pose(self, start: tuple[float, float], floor: float, times: Times) -> tuple[Series, ...]:
        """(down, across) of the centre of mass, and the angle, `times` seconds after the impact.

        `start` is the middle of the disc then, `floor` how far down the floor is.
        """
        angle = self.angle + self.turn * _eased(times / self.landing)
        down, across = (
            start[0] + self.middle * np.sin(self.angle),
            start[1] + self.middle * np.cos(self.angle),
        )
        # Even speed in the air, and then less and less: the slide is half as far as at that speed.
        sliding = np.clip(times - self.landing, 0, SLIDE)
        passed = np.minimum(times, self.landing) + sliding - sliding**2 / (2 * SLIDE)
        across = across + (self.rest - across) * passed / (self.landing + SLIDE / 2)
        lowest = floor - extents(self.radius, self.half, angle)[1]
        end = floor - extents(self.radius, self.half, self.angle + self.turn)[1]
        speed = (end - down) / self.landing - GRAVITY * self.landing / 2
        flight = down + speed * times + GRAVITY / 2 * times**2
        flies = (times < self.landing) & (not self.lies)
        down = np.where(flies, np.minimum(flight, lowest), lowest)
        return down, across, angle


def nearest(outlines: list[Float[np.ndarray, "frames points 2"]]) -> Series:
    """The least distance between any two of several outlines."""
    gaps = [
        np.linalg.norm(one[:, :, None] - other[:, None], axis=-1).min((1, 2))
        for one, other in itertools.combinations(outlines, 2)
    ]
    return np.min(gaps, axis=0)


def middle_of(radius: float, half: float) -> float:
    """How far from the tip of a wedge its centre of mass is."""
    return 2 * radius * float(np.sin(half)) / (3 * half)


def extents(
    radius: float, half: float, angle: Float[np.ndarray, "*angles"] | float
) -> Float[np.ndarray, "4 *angles"]:
    """How far up, down, left and right of its centre of mass a wedge at `angle` reaches."""
    angle = np.asarray(angle)
    middle = middle_of(radius, half)
    found = []
    for way in (-np.pi / 2, np.pi / 2, np.pi, 0):
        off = np.abs((angle - way + np.pi) % (2 * np.pi) - np.pi)
        # The furthest point is on the arc, or the tip, which is the origin here.
        arc = radius * np.cos(np.maximum(0, off - half))
        found.append(np.maximum(0, arc) - middle * np.cos(off))
    return np.stack(found)


def _eased(part: Series) -> Series:
    part = np.clip(part, 0, 1)
    return part**2 * (3 - 2 * part)


def fallen(speed: float, times: Times) -> Series:
    """How far above the floor something is that hits it at time 0 with `speed`, before that."""
    return -speed * times - GRAVITY / 2 * times**2


def bounced(speed: float, times: Times) -> Series:
    """The same for what bounces, and after that too."""
    height = np.maximum(0, fallen(speed, np.minimum(times, 0)))
    start = 0.0
    for _ in range(_HOPS):
        speed *= BOUNCE
        after = times - start
        height = np.where(after > 0, np.maximum(0, speed * after - GRAVITY / 2 * after**2), height)
        start += 2 * speed / GRAVITY
    return height


def broken(
    rng: np.random.Generator,
    count: int,
    *,
    radius: float,
    start: tuple[float, float],
    floor: float,
    width: float,
) -> tuple[Wedge, ...] | None:
    """Wedges that end side by side, apart from one another; None if they get in each other's way.

    start  (down, across) of the disc's middle at the impact.
    width  of the picture, within which they stay.
    """
    shares = 1 + rng.uniform(-_UNEVEN, _UNEVEN, count)
    angles = 2 * np.pi * shares / shares.sum()
    middles = rng.uniform(0, 2 * np.pi) + np.cumsum(angles) - angles / 2
    order = np.argsort(np.cos(middles))
    halves, middles = angles[order] / 2, middles[order]
    # A wedge lies on one of its flat sides; on that which it turns onto the sooner.
    turns = np.stack([-halves - middles, np.pi + halves - middles])
    turns = (turns + np.pi) % (2 * np.pi) - np.pi
    turns = np.where(np.abs(turns[0]) < np.abs(turns[1]), turns[0], turns[1])
    sides = [
        extents(radius, float(half), float(end))[2:]
        for half, end in zip(halves, middles + turns, strict=True)
    ]
    rests = _row(rng, np.array(sides), halves, start[1], width)
    if rests is None:
        return None
    wedges = []
    for half, middle, turn, rest in zip(halves, middles, turns, rests, strict=True):
        high = 0.5 - np.sin(middle) / 2
        travel = abs(rest - start[1] - middle_of(radius, float(half)) * np.cos(middle))
        landing = max(_LANDING[0] + high * (_LANDING[1] - _LANDING[0]), travel / _FASTEST)
        wedges.append(
            Wedge(
                radius=radius,
                half=float(half),
                angle=float(middle),
                turn=float(turn),
                rest=float(rest),
                landing=float(landing),
            )
        )
    found = tuple(wedges)
    return None if _overlap(found, start, floor) > _MOST_OVERLAP else found


def _row(
    rng: np.random.Generator, sides: np.ndarray, halves: np.ndarray, across: float, width: float
) -> np.ndarray | None:
    """Where the pieces' centres of mass come to rest: about where the disc fell, if there is room.

    sides  [pieces, 2], how far each reaches to the left and to the right.
    """
    room = width - 2 * _MARGIN - sides.sum()
    if room < _GAPS[0] * (len(sides) - 1):
        return None
    gaps = rng.uniform(*_GAPS, len(sides) - 1)
    gaps = _GAPS[0] + (gaps - _GAPS[0]) * min(
        1.0, (room - _GAPS[0] * len(gaps)) / (gaps - _GAPS[0]).sum()
    )
    rests = np.cumsum(sides[:, 0] + np.append(0, sides[:-1, 1] + gaps))
    ends = rests[0] - sides[0, 0], rests[-1] + sides[-1, 1]
    shift = across - (rests * halves).sum() / halves.sum()
    return rests + np.clip(shift, _MARGIN - ends[0], width - _MARGIN - ends[1])


def _overlap(wedges: tuple[Wedge, ...], start: tuple[float, float], floor: float) -> float:
    """The greatest part of the pieces' area that lies over one another at any time."""
    poses = np.array([wedge.pose(start, floor, _MOMENTS) for wedge in wedges])
    # [pieces, moments, 2] each: (down, across).
    lines = np.stack([np.sin(poses[:, 2]), np.cos(poses[:, 2])], -1)
    normals = lines[..., ::-1] * (-1, 1)
    middles = np.array([wedge.middle for wedge in wedges])[:, None, None]
    tips = poses[:, :2].transpose(0, 2, 1) - middles * lines
    edges = np.cos([wedge.half for wedge in wedges])[:, None, None]
    inside = np.zeros(len(_MOMENTS))
    for one in range(1, len(wedges)):
        wedge = wedges[one]
        along = wedge.radius * (_AWAY * np.cos(_ASIDE * wedge.half))[:, None]
        aside = wedge.radius * (_AWAY * np.sin(_ASIDE * wedge.half))[:, None]
        points = tips[one, :, None] + along * lines[one, :, None] + aside * normals[one, :, None]
        off = points - tips[:one, :, None]
        forward = (off * lines[:one, :, None]).sum(-1)
        away = np.hypot(off[..., 0], off[..., 1])
        # Edges that touch do not overlap.
        covered = (away < wedge.radius - _SOFT) & (forward > away * edges[:one] + _SOFT)
        inside += covered.any(0).mean(1) * wedge.area
    return float(inside.max()) / sum(wedge.area for wedge in wedges)
