"""The colours of things and of the places behind them, told apart even through blur."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 190, 70),
    "blue": (50, 80, 230),
    "yellow": (250, 215, 50),
    "purple": (160, 50, 200),
    "white": (245, 245, 245),
}
"""Of things. No two of them are within 100 levels of each other in every channel."""

PLACES: dict[str, tuple[int, int, int]] = {
    "field": (60, 120, 50),
    "sea": (20, 60, 120),
    "road": (90, 90, 95),
    "snow": (235, 240, 245),
    "night": (15, 15, 25),
    "sand": (225, 190, 140),
}
"""Of plain grounds."""

_CONTRAST = 100


def contrast(colour: str, place: str) -> int:
    """By how many levels a colour differs from a place, in the channel where it does most."""
    return max(abs(a - b) for a, b in zip(COLOURS[colour], PLACES[place], strict=True))


def colours_over(place: str) -> tuple[str, ...]:
    """The colours of things that stand out from a place, by 100 levels at least."""
    return tuple(colour for colour in COLOURS if contrast(colour, place) >= _CONTRAST)


def levels(table: dict[str, tuple[int, int, int]]) -> Float[np.ndarray, "colours 3"]:
    """A table of colours as an array, in its order."""
    return np.asarray(list(table.values()), np.float32)
