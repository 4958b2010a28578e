"""The world of the eater: a mouth comes to a round food, bites pieces off it, and they are gone.

The food is a disc on a plain place; the mouth a smaller disc with a wedge that is open when it is
far and shut where it bites, and that always faces the food. A bite takes away what the mouth then
covers. Each bite of a scene takes as much as any other. Or the mouth only passes by.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from sora_jax.data.datasets import Caption
from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.eater_scene import (
    FOOD,
    HALF_BAND,
    MOUTH,
    SIDES,
    Depth,
    Scene,
    random_scene,
)
from sora_jax.data.worlds.eater_seeing import BAND, FOODS, MOUTHS, Eaten, seen, state_of
from sora_jax.data.worlds.palette import COLOURS, PLACES, colours_over
from sora_jax.data.worlds.shapes import blank, finished, paint
from sora_jax.data.worlds.world import FPS, Frames, Setting, Times


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eater:
    """The world.

    said    how likely each slot is said in a short caption.
    passes  how likely the mouth only passes by.
    """

    said: float = 0.85
    passes: float = 0.2

    @property
    def name(self) -> str:
        return "eater"

    def scene(self, rng: np.random.Generator, setting: Setting) -> Scene:
        place = list(PLACES)[rng.integers(len(PLACES))]
        over = colours_over(place)
        return random_scene(
            rng,
            setting,
            place=place,
            food=phrases.one_of(rng, [colour for colour in FOODS if colour in over]),
            mouth=phrases.one_of(rng, [colour for colour in MOUTHS if colour in over]),
            band=bool(BAND in over and rng.random() < 0.5),
            passes=bool(rng.random() < self.passes),
        )

    def captions(self, scene: Scene, rng: np.random.Generator) -> tuple[Caption, ...]:
        short, long = _short(scene, rng, self.said), _described(scene, rng)
        return Caption(text=short), Caption(text=long, kind="descriptive")

    def render(self, scene: Scene, times: Times, *, height: int, width: int) -> Frames:
        side = min(height, width)
        canvas = blank(PLACES[scene.place], len(times), height=height, width=width)
        food, mouth = scene.food_depth(times, side=side), scene.mouth_depth(times, side=side)
        middle, reach = np.tile(np.multiply(scene.centre, side), (len(times), 1)), FOOD * side
        paint(canvas, food, COLOURS[scene.food], centre=middle, reach=reach)
        if scene.band:
            paint(canvas, _banded(food, side), COLOURS[BAND], centre=middle, reach=reach)
        centre = scene.mouths(times) * side
        paint(canvas, mouth, COLOURS[scene.mouth], centre=centre, reach=MOUTH * side)
        return finished(canvas)

    def truth(self, scene: Scene, times: Times, *, height: int, width: int) -> Eaten:
        side, names = min(height, width), list(COLOURS)
        middle, centre = np.multiply(scene.centre, side), scene.mouths(times) * side
        cover = np.zeros((len(times), height, width, 3), np.float32)
        for depth, channels, spot, radius in (
            (scene.food_depth(times, side=side), (1, 0, 0), np.tile(middle, (len(times), 1)), FOOD),
            (scene.mouth_depth(times, side=side), (0, 1, 0), centre, MOUTH),
        ):
            paint(cover, depth, channels, centre=spot, reach=radius * side)
        done = (np.asarray(scene.bites())[:, None] <= np.asarray(times)).sum(0)
        state = state_of(scene.place, cover[..., 0], centre)
        return dataclasses.replace(
            state,
            food=names.index(scene.food),
            mouth=names.index(scene.mouth),
            band=scene.band,
            bites=np.where(state.contact, -1, done),
        )

    def read(self, frames: Frames) -> Eaten:
        return seen(frames)


def _banded(food: Depth, side: int) -> Depth:
    return lambda down, across: np.minimum(food(down, across), HALF_BAND * side - np.abs(down))


def _food(scene: Scene) -> str:
    return "burger" if scene.band else "cookie"


def _bites(count: int) -> str:
    return "a bite" if count == 1 else f"{phrases.number(count)} bites"


def _taken(scene: Scene) -> tuple[str, ...]:
    """From where bites have been taken by the end, the last frame at 8 a second, or in a still."""
    end = max(scene.setting.seconds - 1 / FPS, 0.0)
    return scene.sides[: sum(time <= end for time in scene.bites())]


def _short(scene: Scene, rng: np.random.Generator, said: float) -> str:
    eater, colour, kind, many, place = rng.random(5) < said
    mouth = f"a {scene.mouth} mouth" if eater else "a mouth"
    food = (f"{scene.food} " if colour else "") + (_food(scene) if kind else "snack")
    count = len(_taken(scene))
    if not scene.setting.seconds:
        left = f"a {food} with {_bites(count)} missing" if count else f"a whole {food}"
        text = phrases.one_of(rng, (f"{mouth} and {left}", f"{left} and {mouth}"))
    elif count:
        bites = _bites(count) if many or count == 1 else "bites"
        verb = phrases.one_of(rng, ("takes", "comes and takes"))
        text = f"{mouth} {verb} {bites} {phrases.one_of(rng, ('out of', 'from'))} a {food}"
    elif scene.passes:
        idle = ("passes by a {}", "goes past a {} and does not bite", "moves around a {}")
        text = f"{mouth} {phrases.one_of(rng, idle).format(food)}"
    else:
        text = f"{mouth} comes to a {food}"
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    return f"{text} on {ground}" if place else text


def _described(scene: Scene, rng: np.random.Generator) -> str:
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    mouth, spot = f"a {scene.mouth} mouth", _where(scene, scene.centre)
    food = f"a round {scene.food} {_food(scene)}" + f" with a {BAND} band" * scene.band
    lies = (f"{food} lies {spot} on {ground}", f"on {ground} there is {food} {spot}")
    text = phrases.sentence(phrases.one_of(rng, lies))
    if scene.setting.seconds:
        return f"{text} {phrases.sentence(f'{mouth} {_deeds(scene, rng)}')}"
    down, across = scene.mouths(np.zeros(1))[0]
    faces = f"{mouth} {_where(scene, (float(down), float(across)))} faces it"
    count = len(_taken(scene))
    missing = f"{_bites(count)} {'is' if count == 1 else 'are'} missing" if count else "it is whole"
    return f"{text} {phrases.sentence(missing)} {phrases.sentence(faces)}"


def _where(scene: Scene, place: tuple[float, float]) -> str:
    return phrases.where(place[0] / scene.setting.height, place[1] / scene.setting.width)


def _deeds(scene: Scene, rng: np.random.Generator) -> str:
    """What the mouth does in a clip, in order."""
    comes = {
        side: f"from {side}" if side in ("above", "below") else f"from the {side}" for side in SIDES
    }
    if scene.passes:
        ends = {"above": "top", "below": "bottom"}
        first, last = (f"its {ends.get(side, side)}" for side in scene.sides)
        nothing = phrases.one_of(rng, ("and does not bite", "and does not touch it"))
        return f"goes around it from {first} to {last} {nothing}"
    taken = _taken(scene)
    if not taken:
        return f"comes to it {comes[scene.sides[0]]}"
    first = phrases.one_of(rng, ("comes {} and takes a bite", "bites it {}"))
    parts = [first.format(comes[taken[0]])]
    for before, side in itertools.pairwise(taken):
        again = "bites again" if side == before else "bites another time"
        parts.append(f"{again} {comes[side]}")
    return phrases.one_of(rng, (", then ", ", after that ")).join(parts)
