"""What the captions of the world of cuts say."""

from __future__ import annotations

import numpy as np

from sora_jax.data.worlds import phrases
from sora_jax.data.worlds.cuts_scene import Figure, Scene, Shot
from sora_jax.data.worlds.palette import PLACES
from sora_jax.data.worlds.shapes import Kind

_HATS: dict[Kind, str] = {"circle": "round", "square": "square", "triangle": "pointed"}

_PLACES = {
    "field": "grass",
    "sea": "the sea",
    "road": "a road",
    "snow": "snow",
    "night": "the night",
    "sand": "sand",
}
assert _PLACES.keys() == PLACES.keys()


def short_caption(scene: Scene, rng: np.random.Generator, *, said: float) -> str:
    """Says each attribute and the places, in order, with probability `said`."""
    text = _figure(scene.figure, rng.random(6) < said)
    if rng.random() >= said:
        return text
    return f"{text} over {', then '.join(_PLACES[shot.place] for shot in scene.shots)}"


def _figure(figure: Figure, said: np.ndarray) -> str:
    """The figure with those of its attributes that are said."""
    body, colour, size, hat, hat_colour, eye = said
    words = [
        figure.size if size else "",
        figure.colour if colour else "",
        figure.body if body else "figure",
    ]
    text = "a " + " ".join(word for word in words if word)
    if hat or hat_colour:
        hats = [figure.hat_colour if hat_colour else "", _HATS[figure.hat] if hat else "", "hat"]
        text += " with a " + " ".join(word for word in hats if word)
    if eye:
        text += f"{' and' if hat or hat_colour else ' with'} a {figure.eye_colour} eye"
    return text


def described(scene: Scene, rng: np.random.Generator) -> str:
    """Says all that is seen, shot after shot, in one of several phrasings."""
    figure = scene.figure
    body = f"a {figure.size} {figure.colour} {figure.body}"
    hat = f"a {figure.hat_colour} {_HATS[figure.hat]} hat"
    eye = f"one {figure.eye_colour} eye"
    text = phrases.sentence(
        phrases.one_of(
            rng,
            (
                f"{body} wears {hat} and has {eye}",
                f"a figure: {body} with {hat} and {eye}",
                f"{body} has {eye} and {hat}",
            ),
        )
    )
    shots = [_shot(shot, scene, rng) for shot in scene.shots]
    if len(shots) == 1:
        return f"{text} {phrases.sentence(shots[0])}"
    if rng.random() < 0.5:
        return f"{text} {phrases.sentence('first ' + '; then '.join(shots))}"
    numbers = map(phrases.number, range(1, len(shots) + 1))
    told = [phrases.sentence(f"shot {n}: {shot}") for n, shot in zip(numbers, shots, strict=True)]
    return f"{text} {' '.join(told)}"


def _shot(shot: Shot, scene: Scene, rng: np.random.Generator) -> str:
    ground = phrases.one_of(rng, phrases.GROUNDS[shot.place])
    height, width = scene.setting.height, scene.setting.width
    spot = phrases.where(shot.start[0] / height, shot.start[1] / width)
    if not scene.setting.seconds:
        return f"over {ground}, it is {spot}"
    return f"over {ground}, {spot}, it {phrases.one_of(rng, phrases.MOVES[shot.motion])}"
