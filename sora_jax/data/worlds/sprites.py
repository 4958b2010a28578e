"""The world of sprites: up to three coloured shapes, each with its motion, over a plain ground.

What there is to say of a shape are four slots: its kind, its colour, its motion and the place. A
fifth of their combinations is held out, so that a model can be asked for what it never saw; every
pair of slots is still seen. Shapes stay within the picture and apart from one another.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Literal, get_args

import numpy as np

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.seeing import Seen, seen
from sora_jax.data.worlds.shapes import (
    AREA,
    CENTROID,
    KINDS,
    Kind,
    blank,
    depth_of,
    finished,
    paint,
)
from sora_jax.data.worlds.world import Frames, Setting, Times, check_most

Motion = Literal["left", "right", "up", "down", "still"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

WAYS: dict[Motion, tuple[int, int]] = {
    "left": (0, -1),
    "right": (0, 1),
    "up": (-1, 0),
    "down": (1, 0),
    "still": (0, 0),
}
"""(down, across)."""

_RADII = (0.13, 0.22)
_LARGE = 0.175
_SPEEDS = (0.2, 0.5)
_FAST = 0.35
_APART = 0.04
_TRIES = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprite:
    """One shape; `start` (down, across) is where its middle is at first, `speed` is a second's."""

    kind: Kind
    colour: str
    motion: Motion
    radius: float
    start: tuple[float, float]
    speed: float

    def at(self, times: Times) -> np.ndarray:
        """(down, across) of the middle at each time."""
        way = np.asarray(WAYS[self.motion]) * self.speed
        return np.asarray(self.start) + way * np.asarray(times)[:, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """Shapes of different colours over a place."""

    setting: Setting
    place: str
    sprites: tuple[Sprite, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slots:
    """What a caption says of one shape; None for what it leaves out."""

    kind: Kind | None = None
    colour: str | None = None
    motion: Motion | None = None
    place: str | None = None


def held_out(sprite: Sprite, place: str) -> bool:
    """Whether a combination is one of the fifth that training does not see."""
    slots = (
        KINDS.index(sprite.kind),
        list(COLOURS).index(sprite.colour),
        MOTIONS.index(sprite.motion),
        list(PLACES).index(place),
    )
    return sum(slots) % 5 == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprites:
    """The world.

    most      shapes in a scene: one of 1..most, each as likely.
    held_out  whether every shape is of a combination that is held out, or none is.
    said      how likely each slot is said in a short caption.
    """

    most: int = 3
    held_out: bool = False
    said: float = 0.85

    def __post_init__(self) -> None:
        check_most("sprites", self.most)

    @property
    def name(self) -> str:
        return "sprites"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        place = list(PLACES)[rng.integers(len(PLACES))]
        colours = list(colours_over(place))
        rng.shuffle(colours)
        sprites: list[Sprite] = []
        for colour in colours[: 1 + rng.integers(self.most)]:
            sprite = self._sprite(rng, setting, colour, place, tuple(sprites))
            if sprite is not None:
                sprites.append(sprite)
        return Scene(setting=setting, place=place, sprites=tuple(sprites))

    def _sprite(
        self,
        rng: np.random.Generator,
        setting: Setting,
        colour: str,
        place: str,
        others: tuple[Sprite, ...],
    ) -> Sprite | None:
        """A shape that keeps its distance, or None where there is no room; the first finds it."""
        for _ in range(_TRIES):
            sprite = _anywhere(rng, setting, colour)
            if held_out(sprite, place) == self.held_out and _apart(sprite, others, setting):
                return sprite
        if others:
            return None
        # Bad luck alone: the first has room, and some motion of each kind is allowed.
        chances = [
            dataclasses.replace(_anywhere(rng, setting, colour, motion), kind=kind)
            for kind, motion in itertools.product(KINDS, MOTIONS)
        ]
        allowed = [each for each in chances if held_out(each, place) == self.held_out]
        return allowed[rng.integers(len(allowed))]

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short = short_caption(slots_of(scene, rng, said=self.said), rng)
        return Caption(text=short), Caption(text=_described(scene, rng), kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side = min(height, width)
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        for sprite in scene.sprites:
            radius = sprite.radius * side
            paint(
                canvas,
                depth_of(sprite.kind, radius),
                COLOURS[sprite.colour],
                centre=sprite.at(times) * side,
                reach=radius,
            )
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> Seen:
        side, count = min(height, width), (len(times), len(COLOURS))
        state = Seen.nothing(scene.place, *count)
        for sprite in scene.sprites:
            colour, radius = list(COLOURS).index(sprite.colour), sprite.radius * side
            state.count[:, colour] = 1
            state.kind[:, colour] = KINDS.index(sprite.kind)
            state.centre[:, colour] = sprite.at(times) * side + (CENTROID[sprite.kind] * radius, 0)
            state.area[:, colour] = AREA[sprite.kind] * radius**2
        return state

    def read(self, frames: Frames) -> Seen:
        return seen(frames)


def slots_of(scene: Scene, rng: np.random.Generator, *, said: float) -> tuple[Slots, ...]:
    """What a short caption says: each slot of each shape with probability `said`.

    Never nothing of a shape; nothing of motion in a still picture; the place for all or for none.
    """
    place = scene.place if rng.random() < said else None
    found = []
    for sprite in scene.sprites:
        kind, colour, motion = rng.random(3) < said
        found.append(
            Slots(
                kind=sprite.kind if kind or not colour else None,
                colour=sprite.colour if colour else None,
                motion=sprite.motion if motion and scene.setting.seconds else None,
                place=place,
            )
        )
    return tuple(found)


def short_caption(slots: tuple[Slots, ...], rng: np.random.Generator) -> str:
    """Says the slots, which have the place in common, in one of several phrasings."""
    things = []
    for slot in slots:
        thing = _thing(slot, rng)
        things.append(f"{thing} {phrases.one_of(rng, _moves(slot))}" if slot.motion else thing)
    text = phrases.listed(things)
    if slots[0].place is None:
        return text
    ground = phrases.one_of(rng, phrases.GROUNDS[slots[0].place])
    return phrases.one_of(rng, (f"{text} over {ground}", f"{text} on {ground}"))


def _moves(slot: Slots) -> tuple[str, ...]:
    assert slot.motion is not None
    return phrases.MOVES[slot.motion]


def _thing(slot: Slots, rng: np.random.Generator) -> str:
    if slot.kind is None:
        return phrases.one_of(rng, (f"a {slot.colour} thing", f"something {slot.colour}"))
    return f"a {slot.kind}" if slot.colour is None else f"a {slot.colour} {slot.kind}"


def _described(scene: Scene, rng: np.random.Generator) -> str:
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    parts = []
    for sprite in scene.sprites:
        size = "large" if sprite.radius >= _LARGE else "small"
        spot = phrases.where(
            sprite.start[0] / scene.setting.height, sprite.start[1] / scene.setting.width
        )
        thing = f"a {size} {sprite.colour} {sprite.kind}"
        if not scene.setting.seconds:
            parts.append(f"{thing} {spot}")
        elif sprite.motion == "still":
            still = phrases.one_of(rng, phrases.MOVES["still"])
            parts.append(f"{thing} {spot} {still}")
        else:
            speed = "fast" if sprite.speed >= _FAST else "slowly"
            move = phrases.one_of(rng, phrases.MOVES[sprite.motion])
            parts.append(f"{thing} starts {spot} and {move} {speed}")
    count = phrases.number(len(parts)) + (" shape" if len(parts) == 1 else " shapes")
    things = phrases.listed(parts)
    return phrases.sentence(
        phrases.one_of(rng, (f"over {ground}, {things}", f"{count} over {ground}: {things}"))
    )


def _anywhere(
    rng: np.random.Generator, setting: Setting, colour: str, motion: Motion | None = None
) -> Sprite:
    """A shape that stays within the picture as long as the scene lasts; of any motion if None."""
    radius = rng.uniform(*_RADII)
    motion = motion or MOTIONS[rng.integers(len(MOTIONS))]
    # In Python's numbers: of so few NumPy's take five times as long.
    sides, way, speed = (setting.height, setting.width), WAYS[motion], rng.uniform(*_SPEEDS)
    if setting.seconds:
        free = sum((side - 2 * radius) * abs(step) for side, step in zip(sides, way, strict=True))
        speed = min(speed, free / setting.seconds) if motion != "still" else 0.0
    start = []
    for side, step, share in zip(sides, way, rng.random(2).tolist(), strict=True):
        travel = step * speed * setting.seconds
        low, high = radius + max(0, -travel), side - radius - max(0, travel)
        start.append(low + (high - low) * share)
    return Sprite(
        kind=KINDS[rng.integers(len(KINDS))],
        colour=colour,
        motion=motion,
        radius=radius,
        start=(start[0], start[1]),
        speed=speed,
    )


def _apart(sprite: Sprite, others: tuple[Sprite, ...], setting: Setting) -> bool:
    """Whether the square around it never comes near that around another."""
    return all(
        _nearest(sprite, other, setting.seconds) >= sprite.radius + other.radius + _APART
        for other in others
    )


def _nearest(one: Sprite, other: Sprite, seconds: float) -> float:
    """The least that the larger of the distances down and across ever is, along straight ways."""
    down, across = (a - b for a, b in zip(one.start, other.start, strict=True))
    ways = zip(WAYS[one.motion], WAYS[other.motion], strict=True)
    faster = [a * one.speed - b * other.speed for a, b in ways]
    # It is least at an end, where one of both is 0, or where they are equal.
    both = (down, faster[0]), (across, faster[1])
    equal = (down - across, faster[0] - faster[1]), (down + across, faster[0] + faster[1])
    times = [min(max(-gap / rate, 0), seconds) for gap, rate in (*both, *equal) if rate]
    return min(max(abs(gap + rate * time) for gap, rate in both) for time in (0, seconds, *times))
