"""Is what a moving camera sees one rigid thing in three dimensions?"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy import ndarray

from sora_jax.data.worlds.orbit import Orbit
from sora_jax.data.worlds.orbit_camera import CENTRES, axes, intrinsics, positions, project
from sora_jax.data.worlds.orbit_seeing import Orbited
from sora_jax.data.worlds.world import FPS, Frames, World
from sora_jax.evaluation.suite import SIZE, Case, Described, Metric

# Tracks that a factorisation needs, and frames that must show all of them.
_TRACKS, _FRAMES = 6, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry(Described):
    """A box with twenty markers, seen by a camera on the move."""

    name = "geometry"
    size = SIZE
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
                name="markers",
                better="high",
                floor="crossed",
                about="of the markers that the asked camera shows, those that are seen",
            ),
            Metric(
                name="camera_motion",
                better="high",
                floor="crossed",
                about="clips whose camera moves as is asked for",
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
            "beyond_rank_3": beyond_rank_3(seen.position, where),
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


def beyond_rank_3(position: ndarray, visible: ndarray) -> float:
    """What of the tracks is beyond rank 3, in pixels (RMS): 0 for a rigid thing far away.

    position [frames, markers, 2] of the markers that are `visible` in most frames, about their
    centre in each (Tomasi and Kanade 1992, doi 10.1007/BF00129684). NaN for too few tracks.
    """
    markers = visible.mean(0) >= 0.7
    frames = visible[:, markers].all(1)
    if markers.sum() < _TRACKS or frames.sum() < _FRAMES:
        return float("nan")
    tracks = position[frames][:, markers]
    tracks = tracks - tracks.mean(1, keepdims=True)
    measured = tracks.transpose(0, 2, 1).reshape(-1, tracks.shape[1])
    energy = np.linalg.svd(measured, compute_uv=False) ** 2
    return float(np.sqrt(energy[3:].sum() / measured.size))


def _moves(seen: Orbited, truth: Orbited) -> float:
    """Whether the camera turns, rises and comes near as it should, to within a third: 1 or 0.

    Over the frames whose camera can be told; NaN where the first and last of these are less than
    half of the clip apart.
    """
    told = np.flatnonzero(np.isfinite(seen.camera.azimuth))
    if not len(told) or told[-1] - told[0] < len(seen.camera.azimuth) / 2:
        return float("nan")

    def way(state: Orbited) -> ndarray:
        camera = state.camera
        first, last = told[[0, -1]]
        azimuth = np.unwrap(np.radians(camera.azimuth[told]))
        elevation = np.radians(camera.elevation)
        return np.array(
            [
                azimuth[-1] - azimuth[0],
                elevation[last] - elevation[first],
                np.log(camera.distance[last] / camera.distance[first]),
            ]
        )

    asked = way(truth)
    return float(np.linalg.norm(way(seen) - asked) < 0.34 * np.linalg.norm(asked))
