"""Is what a moving camera sees one rigid thing in three dimensions?"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy import ndarray

from sora_jax.arrays import Size
from sora_jax.data.worlds.orbit import Orbit
from sora_jax.data.worlds.orbit_camera import CENTRES, axes, intrinsics, positions, project
from sora_jax.data.worlds.orbit_seeing import Orbited
from sora_jax.data.worlds.world import FPS, Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric

# Tracks that a factorisation needs, and frames that must show all of them.
_TRACKS, _FRAMES = 6, 4

_SHOWN = 0.15
"""Pixels (RMS) of depth in the true tracks from which on more can be told than their errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry(Described):
    """A box with twenty markers, seen by a camera on the move."""

    name = "geometry"
    size: Size = SIZE
    least = 4

    @property
    def world(self) -> World:
        return Orbit()

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(
                name="reprojection",
                better="low",
                floor="bent",
                about="distance of markers from where one rigid box has them, in pixels (RMS)",
            ),
            Metric(
                name="sampson",
                better="low",
                floor="bent",
                about="distance of matches from their epipolar lines, in pixels (median)",
            ),
            Metric(
                name="beyond_rank_3",
                better="low",
                floor="bent",
                about="what of the tracks no affine camera explains, in pixels (RMS)",
            ),
            Metric(
                name="depth",
                better="high",
                floor="flat",
                about="of what the asked camera's motion shows of depth, how much the tracks have,"
                " at most all",
            ),
            Metric(
                name="markers",
                better="high",
                floor="crossed",
                about="of the markers that the asked camera shows, those that are seen",
            ),
            Metric(
                name="camera_motion",
                better="high",
                floor="crossed",
                about="clips whose camera goes the way that is asked for, to within a third",
                yes_no=True,
            ),
        )

    def scores(self, case: Case, frames: Frames) -> dict[str, float]:
        height, width = frames.shape[1:3]
        seen: Orbited = case.world.read(frames)
        frames_count, height_width = len(frames), {"height": height, "width": width}
        times = np.arange(frames_count) / FPS
        truth = case.world.truth(case.scene, times, **height_width)
        expected = project(CENTRES, seen.camera, **height_width)
        where = seen.visible & np.isfinite(seen.position).all(-1)
        off = np.linalg.norm(seen.position - expected, axis=-1)[where]
        return {
            "reprojection": float(np.sqrt(np.mean(off**2))) if len(off) else float("nan"),
            "sampson": sampson(seen, **height_width),
            "beyond_rank_3": _beyond(singular_values(seen.position, where), 3),
            "depth": depth(seen.position, truth.position, where & truth.visible),
            # What is judged above is what can be told: of a blur little can.
            "markers": float(seen.visible[truth.visible & truth.sure].mean()),
            "camera_motion": _moves(seen, truth),
        }


def sampson(seen: Orbited, *, height: int, width: int) -> float:
    """The median Sampson distance in pixels between the first frame and later ones.

    d² = (x'ᵀ F x)² / ((F x)₁² + (F x)₂² + (Fᵀ x')₁² + (Fᵀ x')₂²), with F of the cameras that fit
    (Hartley and Zisserman, Multiple View Geometry, 11.4.3). NaN where nothing is matched.
    """
    rotation, place = axes(seen.camera), positions(seen.camera)
    inverse = np.linalg.inv(intrinsics(height=height, width=width))
    distances = []
    for frame in range(1, len(place)):
        both = seen.visible[0] & seen.visible[frame]
        move = place[0] - place[frame]
        if not both.any() or np.linalg.norm(move) < 1e-3:
            continue
        relative = rotation[frame] @ rotation[0].T
        shift = rotation[frame] @ move
        cross = np.cross(np.eye(3), shift)
        fundamental = inverse.T @ cross.T @ relative @ inverse
        one, two = (_homogeneous(seen.position[each][both]) for each in (0, frame))
        lines, back = one @ fundamental.T, two @ fundamental
        residual = (two * lines).sum(1)
        scale = lines[:, 0] ** 2 + lines[:, 1] ** 2 + back[:, 0] ** 2 + back[:, 1] ** 2
        distances += list(np.abs(residual) / np.sqrt(np.maximum(scale, 1e-12)))
    return float(np.median(distances)) if distances else float("nan")


def _homogeneous(points: ndarray) -> ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], 1)


def singular_values(position: ndarray, visible: ndarray) -> ndarray:
    """Of the matrix of tracks, in pixels (RMS), the largest first; none for too few tracks.

    position [frames, markers, 2] of the markers that are `visible` in most frames, about their
    centre in each (Tomasi and Kanade 1992, doi 10.1007/BF00129684). A rigid thing far away has
    three; two of them if it is flat.
    """
    markers = visible.mean(0) >= 0.7
    frames = visible[:, markers].all(1)
    if markers.sum() < _TRACKS or frames.sum() < _FRAMES:
        return np.zeros(0)
    tracks = position[frames][:, markers]
    tracks = tracks - tracks.mean(1, keepdims=True)
    measured = tracks.transpose(0, 2, 1).reshape(-1, tracks.shape[1])
    return np.linalg.svd(measured, compute_uv=False) / np.sqrt(measured.size)


def _beyond(values: ndarray, rank: int) -> float:
    """What of the tracks is beyond a rank; NaN for too few tracks."""
    return float(np.sqrt((values[rank:] ** 2).sum())) if len(values) else float("nan")


def depth(position: ndarray, true: ndarray, visible: ndarray) -> float:
    """The third singular value of tracks, without what is beyond, as a share of the true ones'.

    0 for what moves as a flat picture does, 1 for a thing as deep as it should be, or deeper. What
    is beyond is no rigid thing's, and would look like depth. NaN for too few tracks, or where the
    true ones show next to none.
    """
    own, of_truth = (singular_values(each, visible) for each in (position, true))
    if not len(own) or of_truth[2] < _SHOWN:
        return float("nan")
    rigid = own[2] ** 2 - (own[3:] ** 2).sum()
    return float(min(1.0, np.sqrt(max(rigid, 0.0)) / of_truth[2]))


def _moves(seen: Orbited, truth: Orbited) -> float:
    """Whether the camera turns, rises and comes near as it should, to within a third: 1 or 0.

    In the mean square over the frames whose camera can be told, all of which count; NaN where the
    first and last of these are less than half of the clip apart.
    """
    told = np.flatnonzero(np.isfinite(seen.camera.azimuth))
    if not len(told) or told[-1] - told[0] < len(seen.camera.azimuth) / 2:
        return float("nan")

    def way(state: Orbited) -> ndarray:
        """From the first of these frames to each of them."""
        camera = state.camera
        place = np.stack(
            [
                np.unwrap(np.radians(camera.azimuth[told])),
                np.radians(camera.elevation[told]),
                np.log(camera.distance[told]),
            ]
        )
        return place - place[:, :1]

    asked = way(truth)
    return float(np.linalg.norm(way(seen) - asked) < 0.34 * np.linalg.norm(asked))
