"""Flat shapes with soft edges, drawn into pictures that are float32 while they are made.

The edge of a shape is one pixel wide: a pixel is covered by as much as its middle lies inside the
edge, and half a pixel, so that what is covered in all is the shape's area to a few thousandths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8

Kind = Literal["circle", "square", "triangle", "cross"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Canvas = Float[np.ndarray, "frames height width 3"]
Across = Float[np.ndarray, "..."]

_ARM = 0.36
"""Half the width of a cross's arms, as a part of its radius."""
_HALF_SIDE = 0.85
"""Half the side of a square, as a part of its radius."""
_BASE, _SLOPE = 0.8, 1.8
"""A triangle's tip is one radius above its middle, its base 0.8 below and two radii wide."""

AREA: dict[Kind, float] = {
    "circle": np.pi,
    "square": (2 * _HALF_SIDE) ** 2,
    "triangle": 1.8,
    "cross": 8 * _ARM - 4 * _ARM**2,
}
"""Of a shape of radius 1."""

CENTROID: dict[Kind, float] = {"circle": 0, "square": 0, "triangle": 0.2, "cross": 0}
"""How far below its middle the centre of mass of a shape of radius 1 is."""

EXTENT: dict[Kind, tuple[float, float, float]] = {
    "circle": (1, 1, 1),
    "square": (_HALF_SIDE, _HALF_SIDE, _HALF_SIDE),
    "triangle": (1, _BASE, 1),
    "cross": (1, 1, 1),
}
"""How far a shape of radius 1 reaches above, below and beside its middle."""


def blank(colour: tuple[int, int, int], frames: int, *, height: int, width: int) -> Canvas:
    """A plain picture for each frame."""
    # A row at a time, which NumPy copies five times as fast as three numbers.
    row = np.tile(np.array(colour, np.float32), width)
    return np.tile(row, (frames, height, 1)).reshape(frames, height, width, 3)


def finished(canvas: Canvas) -> UInt8[np.ndarray, "frames height width 3"]:
    """What has been drawn, as pixels; the canvas is used up."""
    return np.rint(canvas, out=canvas).astype(np.uint8)


def paint(
    canvas: Canvas,
    depth: Callable[[Across, Across], Across],
    colour: tuple[int, int, int],
    *,
    centre: Float[np.ndarray, "frames 2"],
    reach: float,
    shown: np.ndarray | None = None,
) -> None:
    """Draws a shape over what is there, once in each frame, at `centre` in pixels.

    depth  how many pixels inside the shape's edge a place is (negative outside), of its distances
           down and across from the centre, [frames, size, 1] and [frames, 1, size].
    reach  no place further from the centre than this, down or across, is inside.
    shown  in which frames, or how much of it as 0..1; None for all.
    """
    frames, height, width = canvas.shape[:3]
    size = 2 * int(np.ceil(reach + 1)) + 1
    corner = np.rint(centre - size / 2).astype(int)
    rows, columns = (corner[:, axis, None] + np.arange(size) for axis in (0, 1))
    down = (rows + 0.5 - centre[:, :1]).astype(np.float32)[:, :, None]
    across = (columns + 0.5 - centre[:, 1:]).astype(np.float32)[:, None, :]
    cover = np.clip(depth(down, across) + 0.5, 0, 1)
    if shown is not None:
        cover = cover * np.asarray(shown, np.float32)[:, None, None]
    painted = cover > 0
    painted &= ((rows >= 0) & (rows < height))[:, :, None]
    painted &= ((columns >= 0) & (columns < width))[:, None, :]
    # All pixels of all frames in a row, which are found much faster than by three numbers each.
    first = width * (height * np.arange(frames)[:, None] + rows)
    places = (first[:, :, None] + columns[:, None, :])[painted]
    pixels = canvas.reshape(-1, 3, copy=False)  # or an error: a copy would be painted in vain
    under = pixels[places]
    pixels[places] = under + cover[painted][:, None] * (np.asarray(colour, np.float32) - under)


def depth_of(kind: Kind, radius: float) -> Callable[[Across, Across], Across]:
    """For `paint`: a shape of `radius` pixels, the right way up."""
    return lambda down, across: _DEPTHS[kind](down, np.abs(across), np.float32(radius))


def box(height: float, width: float) -> Callable[[Across, Across], Across]:
    """For `paint`: an upright rectangle of so many pixels."""
    return lambda down, across: np.minimum(height / 2 - np.abs(down), width / 2 - np.abs(across))


def _circle(down: Across, across: Across, radius: np.float32) -> Across:
    return radius - np.sqrt(down**2 + across**2)


def _square(down: Across, across: Across, radius: np.float32) -> Across:
    return radius * np.float32(_HALF_SIDE) - np.maximum(np.abs(down), across)


def _triangle(down: Across, across: Across, radius: np.float32) -> Across:
    side = (down + radius - np.float32(_SLOPE) * across) * np.float32(1 / np.hypot(1, _SLOPE))
    return np.minimum(side, radius * np.float32(_BASE) - down)


def _cross(down: Across, across: Across, radius: np.float32) -> Across:
    down, arm = np.abs(down), radius * np.float32(_ARM)
    upright = np.minimum(radius - down, arm - across)
    return np.maximum(upright, np.minimum(radius - across, arm - down))


_DEPTHS = {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross}
