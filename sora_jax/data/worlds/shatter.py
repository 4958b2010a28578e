"""The world of shatter: a disc of glass falls, hits the floor and breaks into wedges.

The pieces have the disc's area in all, fly apart, and end side by side so that they can be counted.
Now and then it is a ball of rubber, with a black middle, which bounces and stays whole. (The
breaking of glass is what the Sora report names first of what its model gets wrong.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds.palette import COLOURS, PLACES
from sora_jax.data.worlds.shapes import Across, blank, depth_of, finished, paint
from sora_jax.data.worlds.shatter_motion import bounced, fallen, nearest
from sora_jax.data.worlds.shatter_scene import Scene, described, new_scene, short_caption
from sora_jax.data.worlds.shatter_seeing import APART, BLACK, CLEAR, TABLE, TOUCHES, State, read
from sora_jax.data.worlds.world import Frames, Setting, Times

_CORE = 0.45
"""Of a rubber ball's radius is black."""

Depth = Callable[[Across, Across], Across]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shatter:
    """The world.

    rubber  how likely it is a ball of rubber.
    said    how likely each slot is said in a short caption.
    """

    rubber: float = 0.25
    said: float = 0.85

    @property
    def name(self) -> str:
        return "shatter"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        return new_scene(rng, setting, rubber=self.rubber)

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short = short_caption(scene, rng, said=self.said)
        return Caption(text=short), Caption(text=described(scene, rng), kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side, colour = min(height, width), COLOURS[scene.colour]
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        lift = _lift(scene, side)
        if scene.table:
            canvas[:, round(scene.floor * side) :] = TABLE
        whole = _whole(scene, times)
        disc = np.nonzero(whole)[0]
        part, radius = canvas[disc], scene.radius * side
        centre = _disc(scene, times[disc]) * side + lift
        paint(part, depth_of("circle", radius), colour, centre=centre, reach=radius)
        if scene.rubber:
            core = radius * _CORE
            paint(part, depth_of("circle", core), BLACK, centre=centre, reach=core)
        canvas[disc] = part
        pieces = np.nonzero(~whole)[0]
        part = canvas[pieces]
        for wedge in scene.wedges:
            down, across, angle = wedge.pose(scene.hit, scene.floor, times[pieces] - scene.impact)
            line = np.stack([np.sin(angle), np.cos(angle)], 1)
            tip = (np.stack([down, across], 1) - wedge.middle * line) * side + lift
            # Drawn from the middle of its middle line, so that less is looked at than from its tip.
            paint(
                part,
                _sector(line.astype(np.float32), radius, wedge.half),
                colour,
                centre=tip + line * radius / 2,
                reach=radius * _reach(wedge.half),
            )
        canvas[pieces] = part
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> State:
        side = min(height, width)
        whole = _whole(scene, times)
        centre = _disc(scene, times)
        lowest = centre[:, 0] + scene.radius
        pieces = np.ones(len(times), int)
        after = np.nonzero(~whole)[0]
        if len(after):
            since = times[after] - scene.impact
            poses = [wedge.pose(scene.hit, scene.floor, since) for wedge in scene.wedges]
            areas = np.array([wedge.area for wedge in scene.wedges])
            centre[after] = np.einsum(
                "wdt,w->td", [pose[:2] for pose in poses], areas / areas.sum()
            )
            outlines = [
                wedge.outline(pose) for wedge, pose in zip(scene.wedges, poses, strict=True)
            ]
            lowest[after] = np.max([outline[..., 0].max(1) for outline in outlines], 0)
            apart = nearest(outlines) * side >= APART
            pieces[after] = np.where(apart, len(scene.wedges), -1)
        above = (scene.floor - lowest) * side
        return State(
            place=scene.place,
            colour=list(COLOURS).index(scene.colour),
            rubber=np.full(len(times), scene.rubber),
            pieces=pieces,
            area=np.full(len(times), np.pi * (scene.radius * side) ** 2),
            centre=centre * side + _lift(scene, side),
            touches=np.where(above <= TOUCHES, 1, np.where(above >= CLEAR, 0, -1)),
            floor=round(scene.floor * side) if scene.table else height,
        )

    def read(self, frames: Frames) -> State:
        return read(frames)


def _whole(scene: Scene, times: Times) -> Bool[np.ndarray, " frames"]:
    return (times < scene.impact) | scene.rubber


def _disc(scene: Scene, times: Times) -> Float[np.ndarray, "frames 2"]:
    """(down, across) of the middle of what is whole."""
    motion = bounced if scene.rubber else fallen
    down = scene.hit[0] - motion(scene.speed, times - scene.impact)
    return np.stack([down, np.full(len(times), scene.across)], 1)


def _lift(scene: Scene, side: int) -> Float[np.ndarray, "2"]:
    """By how many pixels all is shifted, so that a table's top is the edge of a row of pixels."""
    down = round(scene.floor * side) - scene.floor * side if scene.table else 0.0
    return np.array([down, 0.0])


def _sector(line: Float[np.ndarray, "frames 2"], radius: float, half: float) -> Depth:
    """For `paint`: a wedge about the middle of its middle line, which goes along `line`."""
    forward, aside = line[:, 0, None, None], line[:, 1, None, None]

    def depth(down: Across, across: Across) -> Across:
        down, across = down + forward * (radius / 2), across + aside * (radius / 2)
        along = down * forward + across * aside
        beside = np.abs(down * aside - across * forward)
        edge = along * np.float32(np.sin(half)) - beside * np.float32(np.cos(half))
        return np.minimum(np.float32(radius) - np.sqrt(down**2 + across**2), edge)

    return depth


def _reach(half: float) -> float:
    """How far a wedge of radius 1 goes from the middle of its middle line."""
    return max(0.5, float(np.hypot(np.cos(half) - 0.5, np.sin(half))))
