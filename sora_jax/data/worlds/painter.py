"""The world of the painter: a brush leaves strokes on a plain canvas, and they stay.

The brush is a disc with a rim and a core of the colour that it paints. It moves at an even speed
along one or two smooth ways, the second from where the first ends, in another colour. What it has
passed over is coloured from then on. In formulas: strokes at t are the union of what the brush
painted at all times up to t.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.painter_seeing import DARK, Painted, clear_of, rim_of, seen
from sora_jax.data.worlds.painter_strokes import BRUSH, CORE, WAYS, Stroke, cover, random_strokes
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.shapes import blank, depth_of, finished, paint
from sora_jax.data.worlds.world import Frames, Setting, Times

_TWO = 1.2
"""How many seconds two strokes take at least."""
_SHOWN = BRUSH + 0.1
"""How long the way of a stroke is when it is seen beside the brush."""

_NOMINAL = 2.0
"""How many seconds what a still shows would take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """Strokes on a canvas, of which at time 0 as much is done as takes `begun` seconds."""

    setting: Setting
    place: str
    strokes: tuple[Stroke, ...]
    begun: float

    def brush(self, times: Times) -> Float[np.ndarray, "frames 2"]:
        """(down, across) of the brush at each time."""
        when = np.concatenate([stroke.moments for stroke in self.strokes])
        points = np.concatenate([stroke.points for stroke in self.strokes])
        now = np.asarray(times) + self.begun
        return np.stack([np.interp(now, when, points[:, axis]) for axis in (0, 1)], 1)

    def stroke(self, times: Times) -> Int[np.ndarray, " frames"]:
        """Which stroke the brush is at."""
        begins = [stroke.begin for stroke in self.strokes]
        return np.searchsorted(begins, np.asarray(times) + self.begun + 1e-9) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painter:
    """The world. `said` is how likely each slot is said in a short caption."""

    said: float = 0.85

    @property
    def name(self) -> str:
        return "painter"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        place = list(PLACES)[rng.integers(len(PLACES))]
        colours = [colour for colour in colours_over(place) if colour != "white"]
        rng.shuffle(colours)
        seconds = setting.seconds or _NOMINAL
        chosen = tuple(colours[: rng.integers(1, 3) if seconds > _TWO else 1])
        strokes = random_strokes(rng, setting, chosen, seconds=seconds)
        # A still shows so much of the first stroke that the brush does not hide it.
        early = strokes[0].seconds * min(_SHOWN / strokes[0].way_length, 1)
        begun = 0.0 if setting.seconds else float(rng.uniform(early, seconds))
        return Scene(setting=setting, place=place, strokes=strokes, begun=begun)

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short, long = _short(scene, rng, self.said), _described(scene, rng)
        return Caption(text=short), Caption(text=long, kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side = min(height, width)
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        for stroke in scene.strokes:
            share = cover(stroke, np.asarray(times) + scene.begun, height=height, width=width)
            for channel, level in enumerate(COLOURS[stroke.colour]):
                # One channel at a time: numpy is slow along an axis of three.
                canvas[..., channel] += share * (np.float32(level) - canvas[..., channel])
        centre, current = scene.brush(times) * side, scene.stroke(times)
        whole, core = depth_of("circle", BRUSH * side), depth_of("circle", CORE * side)
        paint(canvas, whole, rim_of(scene.place), centre=centre, reach=BRUSH * side)
        for index, stroke in enumerate(scene.strokes):
            colour, shown = COLOURS[stroke.colour], current == index
            paint(canvas, core, colour, centre=centre, reach=CORE * side, shown=shown)
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> Painted:
        now, names = np.asarray(times) + scene.begun, list(COLOURS)
        centre = scene.brush(times) * min(height, width)
        colours = np.array([names.index(stroke.colour) for stroke in scene.strokes])
        strokes = np.zeros((len(now), len(names), height, width), bool)
        shown = clear_of(centre, height=height, width=width)
        for colour, stroke in zip(colours[::-1], scene.strokes[::-1], strict=True):
            covered = cover(stroke, now, height=height, width=width) > 0.5
            strokes[:, colour] = covered & shown
            shown &= ~covered
        return Painted(
            place=scene.place,
            visible=np.ones(len(now), bool),
            centre=centre,
            colour=colours[scene.stroke(times)],
            strokes=strokes,
        )

    def read(self, frames: Frames) -> Painted:
        return seen(frames)


def _painted(stroke: Stroke, rng: np.random.Generator, said: float) -> str:
    """A stroke as a thing, with its colour, kind and way, each said with probability `said`."""
    colour, kind, way = rng.random(3) < said
    thing = f"{stroke.colour} " if colour else ""
    thing += stroke.kind if kind else "stroke"
    thing = f"{'an' if thing.startswith('arc') else 'a'} {thing}"
    return f"{thing} {stroke.way}" if way else thing


def _done(scene: Scene) -> list[Stroke]:
    """The strokes of which a still shows something."""
    parts = [(scene.begun - stroke.begin) / stroke.seconds for stroke in scene.strokes]
    return [
        stroke
        for index, (part, stroke) in enumerate(zip(parts, scene.strokes, strict=True))
        if index == 0 or part * stroke.way_length > _SHOWN
    ]


def _short(scene: Scene, rng: np.random.Generator, said: float) -> str:
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    place = f" on {ground}" if rng.random() < said else ""
    if not scene.setting.seconds:
        things = phrases.listed([f"a {stroke.colour} stroke" for stroke in _done(scene)])
        return phrases.one_of(rng, (f"a brush and {things}", f"{things} by a brush")) + place
    parts = [_painted(stroke, rng, said) for stroke in scene.strokes]
    verb = phrases.one_of(rng, ("paints", "draws", "leaves"))
    text = f"a brush {verb} {phrases.one_of(rng, (', then ', ' and then ')).join(parts)}"
    return f"{text}{place}"


def _described(scene: Scene, rng: np.random.Generator) -> str:
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    rim = "dark" if rim_of(scene.place) == DARK else "white"
    sides, brush = (scene.setting.height, scene.setting.width), scene.brush(np.zeros(1))[0]
    spot = phrases.where(*(float(place / size) for place, size in zip(brush, sides, strict=True)))
    core = scene.strokes[scene.stroke(np.zeros(1))[0]].colour
    tool = f"a round {core} brush with a {rim} rim"
    if not scene.setting.seconds:
        things = phrases.listed([f"a {stroke.colour} stroke" for stroke in _done(scene)])
        phrasings = (
            f"{things} and {tool} {spot} on {ground}",
            f"on {ground}, {things}; {tool} {spot}",
        )
        return phrases.sentence(phrases.one_of(rng, phrasings))
    parts = [_painted(stroke, rng, 1.0) + _bend(stroke) for stroke in scene.strokes]
    verb = phrases.one_of(rng, ("paints", "draws", "leaves"))
    deeds = phrases.one_of(rng, (", then ", " and after that ")).join(parts)
    stays = phrases.one_of(rng, ("The paint stays.", "What is painted stays.", ""))
    begins = f"on {ground}, {tool} starts {spot} and {verb} {deeds}"
    other = f"{tool} {verb} {deeds} on {ground}, starting {spot}"
    return f"{phrases.sentence(phrases.one_of(rng, (begins, other)))} {stays}".strip()


def _bend(stroke: Stroke) -> str:
    """To which side an arc bends; of others nothing."""
    if stroke.kind != "arc":
        return ""
    way = WAYS[stroke.way]
    aside = np.sign(stroke.swing) * np.array([way[1], -way[0]])
    sides = {(0, -1): "left", (0, 1): "right", (-1, 0): "upper", (1, 0): "lower"}
    return f" that bends to the {sides[int(aside[0]), int(aside[1])]} side"
