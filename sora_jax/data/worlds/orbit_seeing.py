"""From pictures of the box back to its markers, and from these to the camera.

The nearest of many drawn views tells which marker is which. Where each is seen is measured in the
picture alone; the camera is then the one that fits these places best (Gauss and Newton's way).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage

from sora_jax.data.worlds.orbit_camera import (
    CENTRES,
    FACES,
    FOCAL,
    GAP,
    MARKERS,
    TILE,
    Camera,
    Tiles,
    draw,
    project,
    tiles,
)
from sora_jax.data.worlds.palette import COLOURS, PLACES, contrast, levels
from sora_jax.data.worlds.seeing import Labels, place_of, unmixed
from sora_jax.data.worlds.shapes import blank
from sora_jax.data.worlds.world import Frames

_THIN, _UNSURE = 3.0, 0.6
_FEWEST = 4
"""Markers from which the camera is told."""
_LEAST = 4.0
_LOOSE = 0.01
"""How far a picture may well be shifted, as a part of its shorter side."""
_TRUSTED = (2.0, 1.0, 0.5)
"""How far in pixels a marker may be from where a camera would show it and still count by half, step
by step of the fit: what looks like a marker and is none must not turn the camera."""
_GRID = 24
_VIEWS = (np.arange(0, 360, 6.0), np.array([34.0, 38, 42, 46]), np.array([4.3, 4.65, 5.0]))
_CODES = np.array(
    [(0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1)], np.float32
)
"""Of ground, body and faces: colours far from one another, for drawing views."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Orbited:
    """A box in each frame. Markers are numbered as in `orbit_camera`.

    body      the box's colour.
    visible   whether a marker is seen, which is where it is turned to the camera and 3 pixels
              thick or more (its area by its longest side).
    sure      whether it is 0.6 pixels thicker or thinner than that; else `visible` and `position`
              are not promised.
    position  (down, across) of the image of its centre, in pixels; NaN where it is not visible.
    camera    NaN where fewer than four markers are seen. Read of a render at 48 pixels or more, the
              angles are right to 3 degrees and the distance to 2 hundredths of itself; in 19 of 20
              frames to half a degree and half a hundredth.
    """

    place: str
    body: str
    visible: Bool[np.ndarray, "frames markers"]
    sure: Bool[np.ndarray, "frames markers"]
    position: Float[np.ndarray, "frames markers 2"]
    camera: Camera


def marker_colours(body: str) -> tuple[str, ...]:
    """The colours of the markers of each face of a box, in the order of the faces."""
    return tuple(colour for colour in COLOURS if colour != body)


def told(
    seen: Tiles,
) -> tuple[Bool[np.ndarray, "frames markers"], Bool[np.ndarray, "frames markers"]]:
    """`visible` and `sure` of a state."""
    thickness = np.where(seen.facing, seen.thickness, 0)
    return thickness > _THIN, np.abs(thickness - _THIN) > _UNSURE


def seen(frames: Frames) -> Orbited:
    """Reads a state from pictures."""
    height, width = frames.shape[1:3]
    place = place_of(np.concatenate([frames[:, :2], frames[:, -2:]], 1))
    body = _body(frames, place)
    labels, shares = _labels(frames, place, body)
    spots = [_spots(*each) for each in zip(labels, shares, strict=True)]
    start = _nearest_view(labels)
    places, fit = _matched(spots, start, np.zeros((len(frames), 2)), height, width), start
    shift = np.zeros((len(frames), 2))
    for _ in range(2):
        fit, shift = _fitted(places, fit, shift, height, width)
        places = _matched(spots, fit, shift, height, width)
    drawn = tiles(fit, height=height, width=width)
    visible, sure = told(drawn)
    visible &= ~np.isnan(places[..., 0])
    lost = visible.sum(1) < _FEWEST
    visible[lost] = False
    # What is measured is the middle of the square's image; the image of its middle is near by.
    position = places + project(CENTRES, fit, height=height, width=width) - drawn.middle
    blind = np.where(lost, np.nan, 0)
    return Orbited(
        place=place,
        body=body,
        visible=visible,
        sure=sure,
        position=np.where(visible[..., None], position, np.nan),
        camera=Camera(
            azimuth=fit.azimuth % 360 + blind,
            elevation=fit.elevation + blind,
            distance=fit.distance + blind,
        ),
    )


def _body(frames: Frames, place: str) -> str:
    """The colour that is most frequent around the middle, where the box is."""
    height, width = frames.shape[1:3]
    reach = round(0.3 * min(height, width))
    rows, columns = (slice(size // 2 - reach, size // 2 + reach) for size in (height, width))
    pixels = frames[:, rows, columns].reshape(-1, 3).astype(np.float32)
    names = [name for name in COLOURS if contrast(name, place) >= 100]
    table = levels({name: COLOURS[name] for name in names})
    near = (table**2).sum(1) - 2 * pixels @ table.T
    return names[int(np.bincount(near.argmin(1), minlength=len(names)).argmax())]


def _labels(
    frames: Frames, place: str, body: str
) -> tuple[Labels, Float[np.ndarray, "frames height width faces"]]:
    """Of each pixel: 0..4 for the faces whose markers' colour it has, -1 for body, 5 for ground.

    And how much of it each face's markers would cover if there were nothing but them and body.
    """
    base = np.asarray(COLOURS[body], np.float32)
    markers = levels({name: COLOURS[name] for name in marker_colours(body)})
    colours = np.concatenate([markers, np.asarray(PLACES[place], np.float32)[None]])
    labels, _ = unmixed(frames, base, colours)
    lines = markers - base
    shares = (frames - base) @ (lines / (lines**2).sum(1, keepdims=True)).T
    return labels, np.clip(shares, 0, 1)


def _spots(
    labels: Int[np.ndarray, "height width"], shares: Float[np.ndarray, "height width faces"]
) -> Float[np.ndarray, "spots 3"]:
    """The things in one picture that may be markers: rows of (face, down, across)."""
    found = []
    for face in np.unique(labels[(labels >= 0) & (labels < FACES)]):
        labelled: Any = ndimage.label((labels == face) & (shares[..., face] > 0.5))
        names, count = labelled
        # The soft rim of each belongs to it, faint as it may be.
        rim = (labels == face) | (labels < 0)
        names = np.where((names == 0) & rim, ndimage.maximum_filter(names, 3), names)
        rows, columns = np.nonzero(names)
        share, names = shares[rows, columns, face], names[rows, columns]
        area, *middle = (
            np.bincount(names, share * each, minlength=count + 1)[1:]
            for each in (1.0, rows + 0.5, columns + 0.5)
        )
        kept = area > _LEAST
        found += [(face, *spot) for spot in np.stack(middle, 1)[kept] / area[kept, None]]
    return np.array(found, np.float64).reshape(-1, 3)


@functools.cache
def _views() -> tuple[Float[np.ndarray, "views 3"], UInt8[np.ndarray, "views pixels"]]:
    """Cameras, and which of _CODES is where in what they see."""
    grid = np.stack(np.meshgrid(*_VIEWS, indexing="ij"), -1).reshape(-1, 3)
    canvas = blank((0, 0, 0), len(grid), height=_GRID, width=_GRID)
    draw(canvas, _camera(grid), body=(1, 1, 1), markers=_CODES[2:])
    codes = ((canvas[..., None, :] - _CODES) ** 2).sum(-1).argmin(-1)
    return grid, codes.reshape(len(grid), -1).astype(np.uint8)


def _nearest_view(labels: Labels) -> Camera:
    """For each frame the view that shows the same in most places of a grid over its middle."""
    size = np.array(labels.shape[1:])
    steps = (np.arange(_GRID) + 0.5) / _GRID - 0.5
    rows, columns = (steps * size.min() + half / 2 for half in size)
    small = labels[:, rows.astype(int)][:, :, columns.astype(int)]
    codes = np.where(small == FACES, 0, small + 2).reshape(len(labels), -1).astype(np.uint8)
    grid, views = _views()
    # Not as one product of matrices, whose threads get in the way of others'.
    best = [np.count_nonzero(views == code, axis=1).argmax() for code in codes]
    return _camera(grid[best])


def _camera(pose: Float[np.ndarray, "frames 3"]) -> Camera:
    return Camera(azimuth=pose[:, 0], elevation=pose[:, 1], distance=pose[:, 2])


def _matched(
    spots: list[np.ndarray],
    camera: Camera,
    shift: Float[np.ndarray, "frames 2"],
    height: int,
    width: int,
) -> Float[np.ndarray, "frames markers 2"]:
    """Where each marker is seen: the nearest spot of its colour, if it is its nearest marker."""
    drawn = tiles(camera, height=height, width=width)
    reach = 0.6 * (TILE + GAP) * FOCAL * min(height, width) / camera.distance
    places = np.full((len(spots), MARKERS, 2), np.nan)
    face = np.arange(MARKERS) // 4
    for frame, spot in enumerate(spots):
        if not len(spot):
            continue
        gaps = np.linalg.norm(drawn.middle[frame] + shift[frame] - spot[:, None, 1:], axis=-1)
        # What is seen nearly from its edge is too coarse to tell the camera from.
        thin = ~drawn.facing[frame] | (drawn.thickness[frame] < _THIN - _UNSURE)
        other = (spot[:, :1] != face) | thin
        gaps = np.where(other | (gaps > reach[frame]), np.inf, gaps)
        best = gaps.argmin(0)
        mutual = (gaps.argmin(1)[best] == np.arange(MARKERS)) & np.isfinite(gaps.min(0))
        places[frame, mutual] = spot[best[mutual], 1:]
    return places


def _fitted(
    places: Float[np.ndarray, "frames markers 2"],
    camera: Camera,
    shift: Float[np.ndarray, "frames 2"],
    height: int,
    width: int,
) -> tuple[Camera, Float[np.ndarray, "frames 2"]]:
    """The cameras, and shifts of the whole picture, that bring the markers to these places.

    A true picture is not shifted, but one that is nearly true may be.
    """
    state = np.stack([camera.azimuth, camera.elevation, camera.distance, *shift.T], 1)
    steps = np.array([0.5, 0.5, 0.02, 1, 1])
    for trusted in _TRUSTED:
        now = _off(state, places, height, width)
        moved = [_off(state + step, places, height, width) for step in np.diag(steps)]
        slopes = np.stack([(each - now) / step for each, step in zip(moved, steps, strict=True)], 1)
        weighed = slopes * _weights(now, trusted)[:, None]
        square = weighed @ slopes.transpose(0, 2, 1) + 1e-6 * np.eye(5)
        move = np.linalg.solve(square, weighed @ now[..., None])[..., 0]
        state = state - np.clip(move, -20 * steps, 20 * steps)
        state[:, 1:3] = np.clip(state[:, 1:3], (20, 3.0), (70, 7.0))
    return _camera(state[:, :3]), state[:, 3:]


def _weights(
    off: Float[np.ndarray, "frames gaps"], trusted: float
) -> Float[np.ndarray, "frames gaps"]:
    """How much each of `_off` counts: markers less the farther they are off, the shift wholly."""
    markers, shift = off[:, :-2].reshape(len(off), -1, 2), off[:, -2:]
    far = np.square(markers).sum(-1, keepdims=True) / trusted**2
    counts = np.broadcast_to(1 / (1 + far), markers.shape).reshape(len(off), -1)
    return np.concatenate([counts, np.ones_like(shift)], 1)


def _off(
    state: Float[np.ndarray, "frames 5"],
    places: Float[np.ndarray, "frames markers 2"],
    height: int,
    width: int,
) -> Float[np.ndarray, "frames gaps"]:
    """What is to be small: how far markers are from their places, and the shift in large units."""
    middle = tiles(_camera(state[:, :3]), height=height, width=width).middle
    gaps = np.nan_to_num(middle + state[:, None, 3:] - places).reshape(len(state), -1)
    return np.concatenate([gaps, state[:, 3:] / (_LOOSE * min(height, width))], 1)
