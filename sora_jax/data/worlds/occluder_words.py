"""What the captions of the world of the occluder say."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.occluder_scene import Mover, Scene, passage_of
from sora_jax.data.worlds.world import FPS

Event = Literal["through", "in", "out", "before", "after", "partly", "beside", "hidden"]

_LARGE = 0.1125
_FAST = 0.3
_WIDE = 0.35
_LONGEST_SHORT = 130
# That one is first is said if it is by so many seconds.
_SOONER = 0.25

_EVENTS: dict[Event, tuple[str, ...]] = {
    "through": (
        "passes behind {bar} to the {way}",
        "moves {way} behind {bar} and comes out",
        "moves {way}, behind {bar} and out again",
    ),
    "in": ("goes behind {bar}, moving {way}", "moves {way} to behind {bar}"),
    "out": ("comes out from behind {bar}, moving {way}", "moves {way} from behind {bar}"),
    "before": ("moves {way} towards {bar}",),
    "after": ("moves {way} away from {bar}",),
    "partly": ("partly behind {bar}",),
    "beside": ("beside {bar}",),
}

_STORIES: dict[Event, tuple[str, ...]] = {
    "through": (
        "starts {spot}, {moves}, is wholly hidden behind the bar and comes out again",
        "starts {spot}, {moves}, disappears behind the bar and comes out on the other side",
        "{moves} from where it starts {spot}, is hidden by the bar and then seen again",
    ),
    "in": ("starts {spot}, {moves} and goes behind the bar",),
    "out": ("comes out from behind the bar and {moves}",),
    "before": ("starts {spot} and {moves} towards the bar",),
    "after": ("starts {spot} and {moves} away from the bar",),
    "partly": ("is {spot}, partly behind the bar", "{spot} is partly behind the bar"),
    "beside": ("is {spot}, beside the bar", "{spot} is beside the bar"),
}


def event_of(mover: Mover, scene: Scene) -> Event:
    """What a shape does in the clip, or what is seen of it in a still."""
    times = passage_of(mover, scene.bar)
    last = max(0.0, scene.setting.seconds - 1 / FPS)
    starts, ends = times.enters > 0, times.emerges < last
    if not starts and times.emerges >= last:
        return "hidden"
    if not scene.setting.seconds:
        return "beside" if times.touches >= 0 or times.leaves <= 0 else "partly"
    if times.touches >= last:
        return "before"
    if times.leaves <= 0:
        return "after"
    if starts and ends:
        return "through"
    return "in" if starts else "out"


def short_caption(scene: Scene, rng: np.random.Generator, *, said: float) -> str:
    """Says each of kind, colour, motion, place and the bar's colour with probability `said`.

    Never nothing of a shape; nothing of what is hidden all the time; no more than there is room.
    """
    bar = "a cyan bar" if rng.random() < said else "a bar"
    things = [
        _said(mover, event_of(mover, scene), rng, said)
        for mover in scene.movers
        if event_of(mover, scene) != "hidden"
    ]
    if all("{bar}" not in thing for thing in things):
        things.append("{bar}")
    text = " and ".join(things)
    text = text.replace("{bar}", bar, 1).replace("{bar}", "the bar")
    longer = f"{text} over {phrases.one_of(rng, phrases.GROUNDS[scene.place])}"
    return longer if rng.random() < said and len(longer) < _LONGEST_SHORT else text


def _said(mover: Mover, event: Event, rng: np.random.Generator, said: float) -> str:
    kind, colour, motion = rng.random(3) < said
    if kind or not colour:
        thing = f"a {mover.colour if colour else ''} {mover.kind}".replace("  ", " ")
    else:
        thing = phrases.one_of(rng, (f"a {mover.colour} thing", f"something {mover.colour}"))
    if not motion:
        return thing
    return f"{thing} {phrases.one_of(rng, _EVENTS[event]).replace('{way}', mover.way)}"


def described(scene: Scene, rng: np.random.Generator) -> str:
    """Says all that is seen, in one of several phrasings."""
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    size = "wide" if scene.bar[1] - scene.bar[0] >= _WIDE else "narrow"
    stands = phrases.one_of(rng, ("stands", "reaches from top to bottom", "is upright"))
    middle = (scene.bar[0] + scene.bar[1]) / 2 / scene.setting.width
    bar = f"a {size} cyan bar {stands} {phrases.where(0.5, middle)}"
    text = phrases.sentence(phrases.one_of(rng, (f"over {ground}, {bar}", f"{bar}, over {ground}")))
    for mover in scene.movers:
        event = event_of(mover, scene)
        if event != "hidden":
            text += " " + phrases.sentence(_story(mover, event, scene, rng))
    return text + _order(scene)


def _story(mover: Mover, event: Event, scene: Scene, rng: np.random.Generator) -> str:
    size = "large" if mover.radius >= _LARGE else "small"
    height, width = scene.setting.height, scene.setting.width
    spot = phrases.where(mover.start[0] / height, mover.start[1] / width)
    speed = "fast" if mover.speed >= _FAST else "slowly"
    story = phrases.one_of(rng, _STORIES[event])
    story = story.replace("{spot}", spot).replace("{moves}", f"moves {mover.way} {speed}")
    return f"a {size} {mover.colour} {mover.kind} {story}"


def _order(scene: Scene) -> str:
    """Which of two comes out first."""
    if len(scene.movers) < 2 or any(event_of(each, scene) != "through" for each in scene.movers):
        return ""
    leaves = [passage_of(mover, scene.bar).leaves for mover in scene.movers]
    if abs(leaves[0] - leaves[1]) < _SOONER:
        return " They come out at about the same time."
    return f" The {scene.movers[int(np.argmin(leaves))].colour} one comes out first."
