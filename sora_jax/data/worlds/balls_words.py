"""What the captions of the world of balls say."""

from __future__ import annotations

import numpy as np

from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.balls_flight import Scene, centres_at, collisions

_LARGE = 0.11
_EVENTS = {
    True: (", with a collision", ", two collide", ", and two hit"),
    False: (", none collide", ", no collision", ", none hit"),
}


def short_caption(scene: Scene, rng: np.random.Generator, *, said: float) -> str:
    """Says each of colours, starts, place and collisions with probability `said`; never nothing."""
    colours, starts, ground, events = rng.random(4) < said
    starts = starts and scene.setting.seconds > 0
    things = [
        f"a {ball.colour if colours else ''} ball {ball.how if starts else ''}"
        for ball in scene.balls
    ]
    text = phrases.listed([" ".join(thing.split()) for thing in things])
    if len(things) > 1 and len(set(things)) == 1:
        text = f"{phrases.number(len(things))} balls {scene.balls[0].how if starts else ''}".strip()
    if ground:
        text += f" over {phrases.one_of(rng, phrases.GROUNDS[scene.place])}"
    if events and scene.setting.seconds and len(things) > 1:
        text += phrases.one_of(rng, _EVENTS[bool(collisions(scene))])
    return text


def described(scene: Scene, rng: np.random.Generator) -> str:
    """Says all that is seen, in one of several phrasings."""
    ground = phrases.one_of(rng, phrases.GROUNDS[scene.place])
    height, width = scene.setting.height, scene.setting.width
    parts = []
    for ball, (down, across) in zip(scene.balls, centres_at(scene, np.zeros(1))[0], strict=True):
        size = "large" if ball.radius >= _LARGE else "small"
        spot = phrases.where(down / height, across / width)
        how = f" is {ball.how}" if scene.setting.seconds else ""
        parts.append(f"a {size} {ball.colour} ball {spot}{how}")
    count = phrases.number(len(parts)) + (" ball" if len(parts) == 1 else " balls")
    things = phrases.listed(parts)
    text = phrases.sentence(
        phrases.one_of(rng, (f"over {ground}, {things}", f"{count} over {ground}: {things}"))
    )
    return f"{text} {_course(scene, rng)}" if scene.setting.seconds else text


def _course(scene: Scene, rng: np.random.Generator) -> str:
    """What comes of it, in sentences."""
    many = len(scene.balls) > 1
    who = "they" if many else "it"
    how = {
        True: f"{who} {'bounce' if many else 'bounces'} without losing speed",
        False: f"{who} {'lose' if many else 'loses'} speed at each bounce",
    }[scene.restitution == 1]
    hits = [
        f"the {scene.balls[one].colour} and the {scene.balls[two].colour} one collide"
        for one, two in collisions(scene)
    ]
    if not many:
        return phrases.sentence(how)
    if not hits:
        none = phrases.one_of(rng, ("no two of them collide", "they do not hit each other"))
        return f"{phrases.sentence(how)} {phrases.sentence(none)}"
    return f"{phrases.sentence(how)} {phrases.sentence(', then '.join(hits))}"
