"""The world of orbit: a camera moves around a box with coloured markers that stands still.

A pinhole camera with known intrinsics looks at the middle of a box on a plain ground, and goes
around it, towards it, away from it or up, at an even speed. Each face of the box has four square
markers in a colour of its own, which follows from the box's colour, so that each of the twenty
markers can be told from all others. `orbit_camera` has the geometry.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.orbit_camera import CENTRES, SIDES, Camera, draw, project, tiles
from sora_jax.data.worlds.orbit_seeing import Orbited, marker_colours, seen, told
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over, levels
from sora_jax.data.worlds.shapes import blank, finished
from sora_jax.data.worlds.world import FPS, Frames, Setting, Times

Motion = Literal["left", "right", "in", "out", "up"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

DISTANCES, ELEVATIONS = (4.2, 5.1), (33.0, 47.0)
"""Within which the camera stays: in boxes, and in degrees."""

ANGLES = (20, 30, 45, 60, 90, 120)
"""By how many degrees it may go around the box, as far as there is time."""

GROUNDS = tuple(place for place in PLACES if place != "snow")
"""The places: not snow, which is as white as markers."""

_FASTEST = 60.0
"""Degrees a second."""
_NEAR, _HIGH = 4.65, 40.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A box of a colour on a place, and a camera.

    start  its azimuth and elevation, in degrees, and its distance at time 0; see `Camera`.
    speed  by how much these grow in a second.
    """

    setting: Setting
    place: str
    body: str
    motion: Motion
    start: tuple[float, float, float]
    speed: tuple[float, float, float]

    def camera(self, times: Times) -> Camera:
        """Where the camera is at each time."""
        path = np.asarray(self.start) + np.asarray(self.speed) * np.asarray(times)[:, None]
        return Camera(azimuth=path[:, 0] % 360, elevation=path[:, 1], distance=path[:, 2])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Orbit:
    """The world. `said` is how likely each slot is said in a short caption."""

    said: float = 0.85

    @property
    def name(self) -> str:
        return "orbit"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        place = phrases.one_of(rng, GROUNDS)
        motion = MOTIONS[rng.integers(len(MOTIONS))]
        seconds = max(setting.seconds - 1 / FPS, 1 / FPS)
        change = np.zeros(3)
        if motion in ("left", "right"):
            fitting = [angle for angle in ANGLES if angle <= _FASTEST * seconds]
            angle = fitting[rng.integers(len(fitting))] if fitting else _FASTEST * seconds
            change[0] = angle if motion == "right" else -angle
        elif motion == "up":
            change[1] = rng.uniform(0.6, 1) * (ELEVATIONS[1] - ELEVATIONS[0])
        else:
            far = rng.uniform(0.6, 1) * (DISTANCES[1] - DISTANCES[0])
            change[2] = far if motion == "out" else -far
        if not setting.seconds:
            change[:] = 0
        low, high = np.array([(0.0, 360.0), ELEVATIONS, DISTANCES]).T
        low, high = low + np.maximum(0, -change), high - np.maximum(0, change)
        low[0], high[0] = 0.0, 360.0
        start, speed = rng.uniform(low, high), change / seconds
        return Scene(
            setting=setting,
            place=place,
            body=phrases.one_of(rng, colours_over(place)),
            motion=motion,
            start=(float(start[0]), float(start[1]), float(start[2])),
            speed=(float(speed[0]), float(speed[1]), float(speed[2])),
        )

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short, long = _short(scene, rng, self.said), _described(scene, rng)
        return Caption(text=short), Caption(text=long, kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        markers = levels({each: COLOURS[each] for each in marker_colours(scene.body)})
        draw(canvas, scene.camera(times), body=COLOURS[scene.body], markers=markers)
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> Orbited:
        camera = scene.camera(times)
        visible, sure = told(tiles(camera, height=height, width=width))
        position = project(CENTRES, camera, height=height, width=width)
        return Orbited(
            place=scene.place,
            body=scene.body,
            visible=visible,
            sure=sure,
            position=np.where(visible[..., None], position, np.nan),
            camera=camera,
        )

    def read(self, frames: Frames) -> Orbited:
        return seen(frames)


def _rounded(degrees: float) -> int:
    return 5 * round(abs(degrees) / 5)


def _far(scene: Scene) -> str:
    """How far the camera goes, in words."""
    change = np.asarray(scene.speed) * max(scene.setting.seconds - 1 / FPS, 1 / FPS)
    if scene.motion in ("left", "right", "up"):
        return f"by about {_rounded(float(change[0 if scene.motion != 'up' else 1]))} degrees"
    return f"to about {round(20 * (1 + change[2] / scene.start[2])) * 5} percent of its distance"


def _moves(scene: Scene, rng: np.random.Generator) -> str:
    sides = (f"orbits {scene.motion} around", f"circles to the {scene.motion} around")
    ways = {
        "left": sides,
        "right": sides,
        "in": ("moves in towards", "dollies in to", "comes closer to"),
        "out": ("moves away from", "dollies out from", "backs away from"),
        "up": ("rises over", "goes up over", "climbs above"),
    }
    return phrases.one_of(rng, ways[scene.motion])


def _short(scene: Scene, rng: np.random.Generator, said: float) -> str:
    colour, place, motion, far = rng.random(4) < said
    box = f"a {scene.body} box" if colour else "a box"
    ground = f" on {phrases.one_of(rng, phrases.GROUNDS[scene.place])}" if place else ""
    if not scene.setting.seconds or not motion:
        marked = (f"{box} with coloured squares", f"a view of {box}", f"{box} that has markers")
        return f"{phrases.one_of(rng, marked)}{ground}"
    text = f"the camera {_moves(scene, rng)} {box}{ground}"
    return f"{text}, {_far(scene)}" if far else text


def _described(scene: Scene, rng: np.random.Generator) -> str:
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    *sides, top = marker_colours(scene.body)
    view = f"seen from {'nearby' if scene.start[2] < _NEAR else 'further away'}"
    view += " and high above" if scene.start[1] > _HIGH else " and a little above"
    squares = phrases.one_of(rng, ("squares", "square markers", "square tiles"))
    box = f"a {scene.body} box with four {top} {squares} on its top"
    stands = phrases.one_of(rng, (f"{box} stands on {ground}", f"on {ground} stands {box}"))
    # Azimuths of faces are multiples of 90 degrees; the nearest faces are those in view.
    quarter, rest = divmod(scene.start[0] / 90, 1)
    nearest = [sides[int(quarter + each) % SIDES] for each in (0, 1)]
    if 0.25 < rest < 0.75:
        front = f"its {nearest[0]} and its {nearest[1]} side are in view"
    else:
        front = f"its {nearest[round(rest)]} side is in front"
    text = f"{phrases.sentence(stands)} {phrases.sentence(f'{view}, {front}')}"
    if not scene.setting.seconds:
        return text
    first = phrases.one_of(rng, (" at first", " in the beginning"))
    text = f"{text[:-1]}{first}."
    return f"{text} {phrases.sentence(f'the camera {_moves(scene, rng)} it, {_far(scene)}')}"
