"""Words that the captions of several worlds share, each in a few phrasings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sora_jax.data.worlds.palette import PLACES

GROUNDS: dict[str, tuple[str, ...]] = {
    "field": ("a green field", "a field of grass", "green grass"),
    "sea": ("a blue sea", "the deep blue sea", "dark blue water"),
    "road": ("a grey road", "grey asphalt", "a plain grey road"),
    "snow": ("white snow", "a field of snow", "fresh snow"),
    "night": ("a black night sky", "the night sky", "the dark of night"),
    "sand": ("yellow-brown sand", "a beach of sand", "pale sand"),
}
"""What each place is called."""

assert GROUNDS.keys() == PLACES.keys()

MOVES: dict[str, tuple[str, ...]] = {
    "left": ("moves left", "moves to the left", "goes left", "slides left", "drifts to the left"),
    "right": (
        "moves right",
        "moves to the right",
        "goes right",
        "slides right",
        "drifts to the right",
    ),
    "up": ("moves up", "moves upward", "goes up", "rises", "drifts up"),
    "down": ("moves down", "moves downward", "goes down", "sinks", "drifts down"),
    "still": ("stands still", "does not move", "stays where it is", "rests"),
}
"""What each motion is called."""

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def one_of(rng: np.random.Generator, phrasings: Sequence[str]) -> str:
    """One of several ways to say it."""
    return phrasings[int(rng.integers(len(phrasings)))]


def number(count: int) -> str:
    """A number in words, up to ten."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def listed(things: Sequence[str]) -> str:
    """Things in a row: a, b and c."""
    return things[0] if len(things) == 1 else f"{', '.join(things[:-1])} and {things[-1]}"


def where(down: float, across: float) -> str:
    """In which ninth of the picture a place is, given as 0..1 from the top and from the left."""
    rows, columns = ("top", "", "bottom"), ("left", "", "right")
    found = f"{rows[min(2, max(0, int(down * 3)))]} {columns[min(2, max(0, int(across * 3)))]}"
    return f"at the {found.strip()}" if found.strip() else "in the middle"


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
