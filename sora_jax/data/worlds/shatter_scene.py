"""The scenes of the world of shatter, and what is said of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.palette import PLACES, colours_over
from sora_jax.data.worlds.shatter_motion import GRAVITY, SLIDE, Wedge, broken
from sora_jax.data.worlds.world import FPS, Setting

PIECES = (3, 6)
_RADII = (0.1, 0.19)
_LARGE = 0.135
_SPEEDS = (0.45, 0.66)
_TABLES = (0.1, 0.2)
_FRAME = 1 / FPS
_EARLIEST = 0.3
_AFTER = 1.25
"""Seconds that a long clip goes on after the impact, so that all comes to rest in it."""
_STILL = 1.3
_TRIES = 30

_FALLS = ("falls", "falls down", "drops")
_BREAKS = ("breaks into{} pieces", "shatters into{} pieces", "bursts into{} pieces")
_BOUNCES = ("bounces", "bounces back up", "jumps back up")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A disc above a floor, at places in units of the shorter side.

    rubber  whether it is a ball of rubber, which has a black middle and no wedges.
    across  of the disc's middle.
    floor   how far down the floor is: the picture's lower edge, or the top of a table.
    speed   when it hits the floor, a second.
    impact  when that is, in seconds; below 0 if it was before the scene.
    wedges  the pieces that it breaks into, from left to right as they end.
    """

    setting: Setting
    place: str
    colour: str
    rubber: bool
    radius: float
    across: float
    floor: float
    speed: float
    impact: float
    wedges: tuple[Wedge, ...] = ()

    @property
    def table(self) -> bool:
        """Whether there is a table."""
        return self.floor < self.setting.height

    @property
    def hit(self) -> tuple[float, float]:
        """(down, across) of the disc's middle at the impact."""
        return self.floor - self.radius, self.across

    @property
    def rested(self) -> float:
        """When the last of the pieces comes to rest, in seconds."""
        return self.impact + max((wedge.landing for wedge in self.wedges), default=0) + SLIDE

    @property
    def lasts(self) -> float:
        """The time of the last frame at 8 a second."""
        return max(0.0, self.setting.seconds - _FRAME)


def new_scene(rng: np.random.Generator, setting: Setting, *, rubber: float) -> Scene:
    """A random scene; `rubber` is how likely it is a ball of rubber."""
    place = list(PLACES)[rng.integers(len(PLACES))]
    colours = colours_over(place)
    table = rng.uniform(*_TABLES) if rng.random() < 0.5 else 0.0
    speed = rng.uniform(*_SPEEDS)
    scene = Scene(
        setting=setting,
        place=place,
        colour=colours[rng.integers(len(colours))],
        rubber=bool(rng.random() < rubber),
        radius=rng.uniform(*_RADII),
        across=rng.uniform(0.25, setting.width - 0.25),
        floor=setting.height - table,
        speed=speed,
        impact=_impact(rng, setting, speed),
    )
    return scene if scene.rubber else _with_pieces(rng, scene)


def _impact(rng: np.random.Generator, setting: Setting, speed: float) -> float:
    """Within the scene if it is long enough; never later than a fall from rest at its beginning."""
    latest = speed / GRAVITY
    if setting.seconds >= 2:
        return rng.uniform(_EARLIEST, min(latest, setting.seconds - _AFTER))
    return rng.uniform(_FRAME, latest) if setting.seconds else rng.uniform(-_STILL, latest)


def _with_pieces(rng: np.random.Generator, scene: Scene) -> Scene:
    """With wedges, of a disc as large as their row has room for."""
    count = int(rng.integers(PIECES[0], PIECES[1] + 1))
    wedges = None
    for attempt in range(_TRIES):
        radius = rng.uniform(_RADII[0], _RADII[1] * 0.97**attempt)
        across = rng.uniform(0.3, scene.setting.width - 0.3)
        scene = dataclasses.replace(scene, radius=radius, across=across)
        wedges = broken(
            rng,
            count,
            radius=radius,
            start=scene.hit,
            floor=scene.floor,
            width=scene.setting.width,
        )
        if wedges is not None:
            break
        count = max(PIECES[0], count - 1) if attempt % 10 == 9 else count
    assert wedges is not None, "few pieces of a small disc have room"
    return dataclasses.replace(scene, wedges=wedges)


def short_caption(scene: Scene, rng: np.random.Generator, *, said: float) -> str:
    """Says each slot (colour, what happens, number of pieces, place) with probability `said`."""
    colour, happens, number, place = rng.random(4) < said
    text = _thing(scene, rng, colour=scene.colour if colour else "")
    if happens and scene.setting.seconds:
        text += f" {phrases.listed(_events(scene, rng, number=bool(number)))}"
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    before = phrases.one_of(rng, ("over", "before"))
    return f"{text} {before} {ground}" if place else text


def described(scene: Scene, rng: np.random.Generator) -> str:
    """Says all of them, and the disc's size and place, the floor and what comes after."""
    setting = scene.setting
    size = "large" if scene.radius >= _LARGE else "small"
    thing = _thing(scene, rng, colour=f"{size} {scene.colour}")
    spot = phrases.where(0.5, scene.across / scene.setting.width)
    floor = "a brown table" if scene.table else "the lower edge of the picture"
    if setting.seconds:
        first, *rest = _events(scene, rng, number=True)
        text = phrases.listed([f"{thing} {first} towards {floor}", *rest])
        if scene.wedges and scene.rested <= scene.lasts + _FRAME:
            text += phrases.one_of(
                rng,
                (
                    ", which fly apart and come to rest side by side",
                    "; the pieces fly apart, slide and lie still in a row",
                ),
            )
    else:
        text = f"{thing} {'above' if scene.impact > 0 or scene.rubber else 'on'} {floor}"
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    forms = ("before {1} and {0} of the picture, {2}", "{0} of the picture, before {1}, {2}")
    return phrases.sentence(phrases.one_of(rng, forms).format(spot, ground, text))


def _thing(scene: Scene, rng: np.random.Generator, *, colour: str) -> str:
    """What there is to be seen at first."""
    colour = f"{colour} " if colour else ""
    if scene.rubber:
        black = phrases.one_of(rng, ("with a black middle", "that is black in the middle"))
        return f"a {colour}rubber ball {black}"
    if scene.impact > 0:
        return phrases.one_of(rng, (f"a {colour}disc of glass", f"a {colour}glass disc"))
    if scene.rested > 0:
        return f"the flying pieces of a {colour}glass disc"
    count = phrases.number(len(scene.wedges))
    return phrases.one_of(
        rng,
        (
            f"{count} pieces of a {colour}glass disc",
            f"a broken {colour}glass disc in {count} pieces",
        ),
    )


def _events(scene: Scene, rng: np.random.Generator, *, number: bool) -> list[str]:
    """What happens, in order."""
    events = [phrases.one_of(rng, _FALLS)]
    if scene.impact + _FRAME > scene.lasts:
        return events
    if scene.rubber:
        return [*events, phrases.one_of(rng, _BOUNCES)]
    count = f" {phrases.number(len(scene.wedges))}" if number else ""
    return [*events, phrases.one_of(rng, _BREAKS).format(count)]
