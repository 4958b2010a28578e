"""The box of the world of orbit, its markers, and the pinhole camera that looks at its middle.

The box is one long and wide; lengths are in that unit. World axes are x, y and z, which is up, from
the middle of the box. The camera's axes are (down, right, forward), so that a point with these
coordinates is seen at f down / forward and f right / forward from the middle of the picture:
pixel = K R (point - C), divided by its third coordinate, with K from `intrinsics`, R from `axes`
and C from `positions`. (These axes are left-handed; how one camera is turned to another is not
touched by that.)
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from sora_jax.data.worlds.shapes import Canvas

FOCAL = 2.2
"""The focal length, in units of the picture's shorter side."""

TALL = 1.0
"""The height of the box."""

TILE, GAP = 0.31, 0.38 / 3
"""The side of a marker, and the gaps between markers and around them, as parts of a face's."""

SIDES, TOP, FACES, MARKERS = 4, 4, 5, 20
"""Faces 0 to 3 look along x, y, -x and -y, face 4 up. Marker `4 f + 2 r + c` is on face f in row r
and column c, from the upper left as seen from outside (of the top: as seen from the side of x)."""

_TURN = np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
_UP = np.array([0.0, 0, 1])
_NORMALS = np.array([*_TURN, _UP, -_UP])
_RIGHT = np.array([_TURN[1], _TURN[2], _TURN[3], _TURN[0], _TURN[1]])
_DOWN = np.array([*(4 * [-TALL * _UP]), _TURN[0]])
_MIDDLE = _NORMALS[:FACES] * np.array([0.5, 0.5, 0.5, 0.5, TALL / 2])[:, None]

_STEP = (TILE + GAP) / 2
_CELLS = np.array([(-_STEP, -_STEP), (-_STEP, _STEP), (_STEP, -_STEP), (_STEP, _STEP)])
_SQUARE = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * TILE / 2


def _on_faces(places: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "faces ... 3"]:
    """Points at (down, right) on each face, as parts of its height and width."""
    down, right = places[..., :1], places[..., 1:]
    return np.stack(
        [m + down * d + right * r for m, d, r in zip(_MIDDLE, _DOWN, _RIGHT, strict=True)]
    )


CENTRES: Float[np.ndarray, "markers 3"] = _on_faces(_CELLS).reshape(MARKERS, 3)
"""The middles of the markers in the world."""

CORNERS: Float[np.ndarray, "markers 4 3"] = _on_faces(_CELLS[:, None] + _SQUARE).reshape(-1, 4, 3)
"""Their corners, in turn."""

_BOX = np.array([(x, y, z * TALL) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_EDGES = [(a, b) for a in range(8) for b in range(a) if (np.abs(_BOX[a] - _BOX[b]) > 0).sum() == 1]
# The two faces on which both ends of an edge lie.
_BESIDE = np.array(
    [
        np.flatnonzero(
            [
                all(abs(_BOX[end] @ n - abs(n @ (0.5, 0.5, TALL / 2))) < 1e-9 for end in edge)
                for n in _NORMALS
            ]
        )
        for edge in _EDGES
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """Where the camera is in each frame; it looks at the middle of the box.

    azimuth    in degrees around z, from x to y; the camera moves right where it grows.
    elevation  in degrees above the horizon.
    distance   from the middle of the box.
    """

    azimuth: Float[np.ndarray, " frames"]
    elevation: Float[np.ndarray, " frames"]
    distance: Float[np.ndarray, " frames"]


class Tiles(NamedTuple):
    """The markers as squares in the picture.

    facing     whether their face is turned to the camera; of a box, all that do are in view.
    thickness  their area by their longest side, in pixels.
    middle     the centre of mass of what is seen of them (down, across), not quite the image of
               their centre: see `project` with CENTRES for that.
    """

    facing: Bool[np.ndarray, "frames markers"]
    thickness: Float[np.ndarray, "frames markers"]
    middle: Float[np.ndarray, "frames markers 2"]


def axes(camera: Camera) -> Float[np.ndarray, "frames 3 3"]:
    """R: the camera's axes down, right and forward, as rows, in the world."""
    around, up = np.radians(camera.azimuth), np.radians(camera.elevation)
    sine, cosine, zero = np.sin(around), np.cos(around), np.zeros_like(around)
    forward = np.stack([-np.cos(up) * cosine, -np.cos(up) * sine, -np.sin(up)], -1)
    right = np.stack([-sine, cosine, zero], -1)
    return np.stack([np.cross(forward, right), right, forward], 1)


def positions(camera: Camera) -> Float[np.ndarray, "frames 3"]:
    """C: where the camera is in the world."""
    return -axes(camera)[:, 2] * camera.distance[:, None]


def intrinsics(*, height: int, width: int) -> Float[np.ndarray, "3 3"]:
    """K: from coordinates (down, right, forward) to homogeneous pixels (down, across, 1)."""
    focal = FOCAL * min(height, width)
    return np.array([[focal, 0, height / 2], [0, focal, width / 2], [0, 0, 1.0]])


def project(
    points: Float[np.ndarray, "points 3"], camera: Camera, *, height: int, width: int
) -> Float[np.ndarray, "frames points 2"]:
    """Where points of the world are seen, (down, across) in pixels."""
    off = points - positions(camera)[:, None]
    seen = off @ (intrinsics(height=height, width=width) @ axes(camera)).transpose(0, 2, 1)
    return seen[..., :2] / seen[..., 2:]


def tiles(camera: Camera, *, height: int, width: int) -> Tiles:
    """The markers as the camera sees them."""
    seen = project(CORNERS.reshape(-1, 3), camera, height=height, width=width)
    ends = seen.reshape(len(seen), MARKERS, 4, 2)
    after = np.roll(ends, -1, 2)
    cross = ends[..., 0] * after[..., 1] - ends[..., 1] * after[..., 0]
    area = cross.sum(-1) / 2
    middle = ((ends + after) * cross[..., None]).sum(2) / (6 * area[..., None])
    longest = np.linalg.norm(after - ends, axis=-1).max(-1)
    return Tiles(
        facing=np.repeat(_facing(camera)[:, :FACES], 4, 1),
        thickness=np.abs(area) / longest,
        middle=middle,
    )


def draw(
    canvas: Canvas,
    camera: Camera,
    *,
    body: tuple[int, int, int],
    markers: Float[np.ndarray, "faces 3"],
) -> None:
    """Draws the box over what is there: its body in one colour, its markers in one for each face.

    The box is convex and its markers are flat, so what is turned to the camera is all that is seen.
    """
    if not len(canvas):
        return
    height, width = canvas.shape[1:3]
    corners = project(_BOX, camera, height=height, width=width)
    low = np.maximum(np.floor(corners.min((0, 1))).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max((0, 1))).astype(int) + 1, (height, width))
    window = canvas[:, low[0] : high[0], low[1] : high[1]]
    corner, lines = low + 0.5, _outline(camera, corners)
    inside = _side(lines[:, 0], corner, window)
    for line in lines.transpose(1, 0, 2)[1:]:
        np.minimum(inside, _side(line, corner, window), out=inside)
    _paint(window, inside, np.tile(np.asarray(body, np.float32), (len(canvas), 1)))
    for face in _seen_faces(camera).T:
        cuts = _cuts(camera, face, height=height, width=width).transpose(1, 2, 0, 3)
        # The lines of a face that is seen from its edge lie on one another, and meet anywhere.
        depth = np.where((face >= 0)[:, None, None], inside, -1)
        for before, inner, outer, after in cuts:
            first, last, third, fourth = (
                _side(line, corner, window) for line in (before, -inner, outer, -after)
            )
            within = np.maximum(np.minimum(first, last), np.minimum(third, fourth))
            np.minimum(depth, within, out=depth)
        _paint(window, depth, markers[face])


def _side(
    line: Float[np.ndarray, "frames 3"], corner: Float[np.ndarray, "2"], window: Canvas
) -> Float[np.ndarray, "frames rows columns"]:
    """How far each pixel of a window, from that corner on, is on the positive side of a line."""
    rows, columns = (
        np.arange(size) + start for size, start in zip(window.shape[1:3], corner, strict=True)
    )
    one, two, three = line.T[..., None]
    down, across = (one * rows + three).astype(np.float32), (two * columns).astype(np.float32)
    return down[:, :, None] + across[:, None, :]


def _paint(
    window: Canvas,
    depth: Float[np.ndarray, "frames rows columns"],
    colour: Float[np.ndarray, "frames 3"],
) -> None:
    """Lays a colour for each frame over a window, where it is so many pixels inside an edge."""
    share = np.clip(depth + np.float32(0.5), 0, 1)
    for channel, level in enumerate(colour.T[..., None, None]):
        # One channel at a time: numpy is slow along an axis of three.
        window[..., channel] += share * (level - window[..., channel])


def _facing(camera: Camera) -> Bool[np.ndarray, "frames 6"]:
    return (
        positions(camera) @ _NORMALS.T > np.array([0.5, 0.5, 0.5, 0.5, TALL / 2, TALL / 2]) + 1e-6
    )


def _seen_faces(camera: Camera) -> Int[np.ndarray, "frames 3"]:
    """The faces turned to the camera: along x, along y, and the top; -1 for none."""
    facing = _facing(camera)
    pairs = [np.where(facing[:, a], a, np.where(facing[:, a + 2], a + 2, -1)) for a in (0, 1)]
    return np.stack([*pairs, np.where(facing[:, TOP], TOP, -1)], 1)


def _outline(
    camera: Camera, corners: Float[np.ndarray, "frames 8 2"]
) -> Float[np.ndarray, "frames 6 3"]:
    """The lines around the box in the picture: the edges of which one face is seen, six of them."""
    seen = _facing(camera)[:, _BESIDE]
    chosen = np.argsort(seen[..., 0] == seen[..., 1], 1, kind="stable")[:, :6]
    ends = np.concatenate([corners, np.ones_like(corners[..., :1])], -1)
    one, other = (
        np.take_along_axis(ends[:, each], chosen[..., None], 1)
        for each in (np.array(_EDGES)[:, 0], np.array(_EDGES)[:, 1])
    )
    lines = _normalised(np.cross(one, other))
    inside = (lines * ends.mean(1)[:, None]).sum(-1, keepdims=True)
    return lines * np.sign(inside)


def _cuts(
    camera: Camera, face: Int[np.ndarray, " frames"], *, height: int, width: int
) -> Float[np.ndarray, "frames 2 4 3"]:
    """The lines along the edges of a face's markers, down and across, in their order.

    A point at (d, r) of the face has the pixel M (d, r, 1), so the line d = c is row 0 of the
    inverse of M less c times its row 2.
    """
    middle = _MIDDLE[face] - positions(camera)
    plane = np.stack([_DOWN[face], _RIGHT[face], middle], -1)
    there = intrinsics(height=height, width=width) @ axes(camera) @ plane
    back = np.linalg.inv(there)
    places = np.array([-0.5 + GAP, -GAP / 2, GAP / 2, 0.5 - GAP])
    return _normalised(back[:, :2, None] - places[:, None] * back[:, None, 2:])


def _normalised(lines: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    return lines / np.linalg.norm(lines[..., :2], axis=-1, keepdims=True)
