"""The world of balls: up to three, over a plain ground, that fall, bounce and hit one another.

The edges of the picture are a box: its lower edge is the floor. See `balls_flight` for how balls
fly in it; `flights` measures from what is seen whether they fall as they should.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds.balls_flight import (
    FASTEST,
    GRAVITY,
    Ball,
    Scene,
    centres_at,
    collisions,
    contacts,
)
from sora_jax.data.worlds.balls_words import described, short_caption
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.seeing import Blob, Seen, blobs, kind_of, place_of, unmixed_over
from sora_jax.data.worlds.shapes import KINDS, blank, depth_of, finished, paint
from sora_jax.data.worlds.world import Frames, Setting, Times, check_most

RESTITUTIONS = (1.0, 0.7)
"""Of a scene, one for all its contacts: elastic balls, and dull ones."""

FLIGHT = 6
"""Frames that a flight has at least: from fewer no acceleration can be told in pixels."""

_CIRCLE = KINDS.index("circle")
_FIT = 0.6
_RADII = (0.09, 0.13)
_DROPS = (0.08, 0.42)
_THROWS = (0.15, 0.3)
_UPWARD = 0.15
_APART = 0.03
_TRIES = 60
# With how many tries a collision is looked for, or none, if that is wanted.
_PATIENCE = 8
_COLLIDING = 0.6
# So long before the end, in seconds, an event must be over to be seen: two frames.
_SEEN = 0.25
_STILL_SECONDS = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Balls:
    """The world.

    most  balls in a scene: one of 1..most, each as likely.
    said  how likely each slot is said in a short caption.
    """

    most: int = 3
    said: float = 0.85

    def __post_init__(self) -> None:
        check_most("balls", self.most)

    @property
    def name(self) -> str:
        return "balls"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        place = list(PLACES)[rng.integers(len(PLACES))]
        colours = list(colours_over(place))
        rng.shuffle(colours)
        colours = colours[: 1 + rng.integers(self.most)]
        wanted = len(colours) > 1 and rng.random() < _COLLIDING
        found: Scene | None = None
        for attempt in range(_TRIES):
            scene = _anything(rng, setting, place, colours)
            if _suits(scene):
                found = scene
                if bool(collisions(scene)) == wanted or attempt >= _PATIENCE:
                    break
        assert found is not None, "one scene in a few suits"
        return found

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short = short_caption(scene, rng, said=self.said)
        return Caption(text=short), Caption(text=described(scene, rng), kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side, centres = min(height, width), centres_at(scene, times)
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        for index, ball in enumerate(scene.balls):
            paint(
                canvas,
                depth_of("circle", ball.radius * side),
                COLOURS[ball.colour],
                centre=centres[:, index] * side,
                reach=ball.radius * side,
            )
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> Seen:
        side, centres = min(height, width), centres_at(scene, times)
        state = Seen.nothing(scene.place, len(times), len(COLOURS))
        for index, ball in enumerate(scene.balls):
            colour = list(COLOURS).index(ball.colour)
            state.count[:, colour] = 1
            state.kind[:, colour] = _CIRCLE
            state.centre[:, colour] = centres[:, index] * side
            state.area[:, colour] = np.pi * (ball.radius * side) ** 2
        return state

    def read(self, frames: Frames) -> Seen:
        """What is seen; where one ball covers another, the other is completed to a circle.

        What is smaller than a quarter of the smallest ball does not count.
        """
        least = np.pi * (_RADII[0] * min(frames.shape[1:3])) ** 2 / 4
        place = place_of(frames)
        labels, shares = unmixed_over(frames, place)
        state = Seen.nothing(place, len(frames), len(COLOURS))
        for colour in np.unique(labels[labels >= 0]):
            for frame, (label, share) in enumerate(zip(labels, shares, strict=True)):
                # Where balls touch, the mixture of their colours can look like a third.
                things = blobs(np.where(label == colour, share, 0), least=least)
                if things:
                    ball = _completed(things[0], (label >= 0) & (label != colour))
                    kind, fits = kind_of(ball)
                    state.count[frame, colour] = len(things)
                    state.kind[frame, colour] = KINDS.index(kind) if fits >= _FIT else -1
                    state.centre[frame, colour] = ball.centre
                    state.area[frame, colour] = ball.area
        return state


class Flight(NamedTuple):
    """A ball (its colour) from a frame to another, all of which it is seen in and touches nothing.

    residual  its acceleration (down, across) less that of gravity, in sides per second².
    """

    colour: int
    first: int
    last: int
    residual: Float[np.ndarray, "2"]


def flights(state: Seen, *, fps: float, height: int, width: int) -> list[Flight]:
    """The flights of at least FLIGHT frames, each as long as it is.

    The acceleration is that of the parabola that fits best. A ball may have touched the box or
    another ball between two frames where its gaps at both make up less than what FASTEST goes in
    the time between them.
    """
    side = min(height, width)
    centre, radius = state.centre / side, np.sqrt(state.area / np.pi) / side
    gaps = _gaps(centre, radius, (height / side, width / side))
    free = np.all(gaps[1:] + gaps[:-1] > FASTEST / fps, axis=-1)
    found = []
    for colour in range(free.shape[1]):
        ends = np.flatnonzero(np.diff(free[:, colour], prepend=False, append=False))
        for first, last in ends.reshape(-1, 2).tolist():
            if last - first + 1 >= FLIGHT:
                times = np.arange(last - first + 1) / fps
                fitted = np.polyfit(times, centre[first : last + 1, colour], 2)
                found.append(Flight(colour, first, last, 2 * fitted[0] - (GRAVITY, 0.0)))
    return found


def _gaps(
    centre: Float[np.ndarray, "frames colours 2"],
    radius: Float[np.ndarray, "frames colours"],
    sides: tuple[float, float],
) -> Float[np.ndarray, "frames colours things"]:
    """From each ball to the four sides of the box and to each other ball."""
    to_box = np.concatenate([centre, np.asarray(sides) - centre], -1) - radius[..., None]
    between = np.linalg.norm(centre[:, :, None] - centre[:, None], axis=-1)
    gaps = between - radius[:, :, None] - radius[:, None]
    nothing = np.isnan(gaps) | np.eye(centre.shape[1], dtype=bool)
    return np.concatenate([to_box, np.where(nothing, np.inf, gaps)], -1)


def _anything(rng: np.random.Generator, setting: Setting, place: str, colours: list[str]) -> Scene:
    """A scene of balls that do not touch at first; those that have no room are left out."""
    balls: list[Ball] = []
    for colour in colours:
        for _ in range(_TRIES):
            ball = _ball(rng, setting, colour)
            if all(_apart(ball, other) for other in balls):
                balls.append(ball)
                break
    return Scene(
        setting=setting,
        place=place,
        restitution=RESTITUTIONS[rng.integers(len(RESTITUTIONS))],
        balls=tuple(balls),
        begin=0.0 if setting.seconds else float(rng.uniform(0, _STILL_SECONDS)),
    )


def _apart(one: Ball, two: Ball) -> bool:
    return math.dist(one.start, two.start) >= one.radius + two.radius + _APART


def _ball(rng: np.random.Generator, setting: Setting, colour: str) -> Ball:
    radius, way = rng.uniform(*_RADII), int(rng.integers(-1, 2))
    drop = rng.uniform(_DROPS[0], _DROPS[1] * min(1.2, setting.height))
    velocity = (-_UPWARD * rng.random() * abs(way), way * rng.uniform(*_THROWS))
    return Ball(
        colour=colour,
        radius=float(radius),
        start=(
            float(setting.height - radius - drop),
            float(rng.uniform(radius, setting.width - radius)),
        ),
        velocity=(float(velocity[0]), float(velocity[1])) if way else (0.0, 0.0),
    )


def _suits(scene: Scene) -> bool:
    """Whether all is slow enough, nothing too late to be seen, and one ball reaches the floor."""
    seconds = scene.setting.seconds
    touches = contacts(scene)
    if any(each.speed > FASTEST for each in touches):
        return False
    early = seconds - _SEEN
    late = any(isinstance(each.other, int) and each.time > early for each in touches)
    lands = any(each.other == "floor" and each.time < early for each in touches)
    return not late and (lands or seconds < 2) if seconds else True


def _completed(blob: Blob, others: Bool[np.ndarray, "height width"]) -> Blob:
    """A ball with what `others`, the pixels of other colours, may hide of it.

    What is seen is completed with the circle of its area and centre again and again, until that
    circle is its own completion.
    """
    rows, columns = (np.arange(size, dtype=np.float32) + 0.5 for size in others.shape)
    whole = blob
    for _ in range(30):
        depth = depth_of("circle", math.sqrt(whole.area / math.pi))
        down, across = rows - np.float32(whole.centre[0]), columns - np.float32(whole.centre[1])
        hidden = np.where(others, np.clip(depth(down[:, None], across[None]) + 0.5, 0, 1), 0)
        share = np.maximum(blob.share, hidden)
        area = float(share.sum())
        if abs(area - whole.area) < 0.01:
            break
        centre = float(share.sum(1) @ rows / area), float(share.sum(0) @ columns / area)
        whole = Blob(centre=centre, area=area, share=share)
    return whole
