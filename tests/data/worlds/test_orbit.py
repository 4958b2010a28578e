"""Promises of the world of orbit: a box in true perspective, read back to the camera."""

from __future__ import annotations

import numpy as np

from sora_jax.data.worlds.orbit import DISTANCES, ELEVATIONS, GROUNDS, MOTIONS, Orbit
from sora_jax.data.worlds.orbit_camera import (
    CENTRES,
    MARKERS,
    TALL,
    Camera,
    axes,
    intrinsics,
    positions,
    project,
)
from sora_jax.data.worlds.orbit_seeing import Orbited, marker_colours
from sora_jax.data.worlds.palette import COLOURS, contrast
from sora_jax.data.worlds.world import World, stream
from tests.data.worlds.checks import blurred, read_back, scenes

WORLD = Orbit()


def agree(truth: Orbited, read: Orbited) -> tuple[float, float]:
    """How far markers are off where that is promised, and how many of `visible` are right."""
    both = truth.sure & truth.visible & read.visible
    off = np.linalg.norm(read.position - truth.position, axis=-1)[both]
    return float(off.max(initial=0)), float((truth.visible == read.visible)[truth.sure].mean())


def camera_error(truth: Camera, read: Camera) -> tuple[float, float]:
    """The greatest errors of angles in degrees and of the distance as a part of itself."""
    turn = (read.azimuth - truth.azimuth + 180) % 360 - 180
    angles = np.abs([turn, read.elevation - truth.elevation])
    return float(angles.max()), float(np.abs(read.distance / truth.distance - 1).max())


def test_it_is_a_world() -> None:
    assert isinstance(WORLD, World)


def test_reading_gives_back_the_state() -> None:
    errors = []
    for scene, times, size in scenes(WORLD, 60, frames=5):
        truth, read = read_back(WORLD, scene, times, size)
        assert (read.place, read.body) == (truth.place, truth.body)
        off, right = agree(truth, read)
        assert off < 0.5 and right == 1
        errors.append(camera_error(truth.camera, read.camera))
    degrees, distance = np.array(errors).T
    assert degrees.max() < 3 and np.quantile(degrees, 0.9) < 0.5
    assert distance.max() < 0.02 and np.quantile(distance, 0.9) < 0.005


def test_reading_bears_blur_and_noise() -> None:
    right, degrees = [], []
    for index, (scene, times, size) in enumerate(scenes(WORLD, 20, frames=5, seed=1)):
        truth = WORLD.truth(scene, times, **size)
        read = WORLD.read(blurred(WORLD.render(scene, times, **size), stream(2, index)))
        off, share = agree(truth, read)
        right += [share, read.place == truth.place, read.body == truth.body]
        degrees.append(camera_error(truth.camera, read.camera)[0])
        assert off < 1
    assert np.mean(right) > 0.97
    assert np.median(degrees) < 1


def test_markers_obey_the_epipolar_constraint_of_the_cameras() -> None:
    for scene, times, size in scenes(WORLD, 6):
        camera, k = scene.camera(times), intrinsics(**size)
        seen = project(CENTRES, camera, **size)
        seen = np.concatenate([seen, np.ones((*seen.shape[:2], 1))], -1)
        one, other, place = axes(camera)[0], axes(camera)[-1], positions(camera)
        x, y, z = other @ (place[0] - place[-1])
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        back = np.linalg.inv(k)
        fundamental = back.T @ cross @ other @ one.T @ back
        fundamental /= np.linalg.norm(fundamental)
        assert np.abs(np.einsum("mi,ij,mj->m", seen[-1], fundamental, seen[0])).max() < 1e-9


def test_motion_has_parallax_that_no_homography_explains() -> None:
    for scene, times, size in scenes(WORLD, 30, seed=3):
        if scene.motion in ("left", "right") and abs(scene.speed[0]) > 15:
            seen = project(CENTRES, scene.camera(times), **size)
            one, other = seen[0] - seen[0].mean(0), seen[-1] - seen[-1].mean(0)
            affine = np.linalg.lstsq(one, other, rcond=None)[0]
            assert np.abs(one @ affine - other).max() > 0.02 * min(size.values())


def test_tracks_of_markers_are_nearly_of_rank_three() -> None:
    for scene, times, size in scenes(WORLD, 12):
        seen = project(CENTRES, scene.camera(times), **size)
        tracks = (seen - seen.mean(1, keepdims=True)).transpose(0, 2, 1).reshape(-1, MARKERS)
        energy = np.linalg.svd(tracks, compute_uv=False) ** 2
        assert energy[3:].sum() < 0.01 * energy.sum()


def test_no_marker_is_seen_through_the_box() -> None:
    ways = np.linspace(0.01, 1, 60)[:, None]
    for scene, times, size in scenes(WORLD, 9, frames=5):
        state, place = WORLD.truth(scene, times, **size), positions(scene.camera(times))
        for frame, marker in np.argwhere(state.visible):
            points = CENTRES[marker] + ways * (place[frame] - CENTRES[marker])
            assert not (np.abs(points) < np.array([0.5, 0.5, TALL / 2])).all(1).any()


def test_eight_markers_or_more_are_seen_at_64_pixels() -> None:
    for index in range(40):
        scene = next(scene for scene, _, _ in scenes(WORLD, 1, seed=100 + index))
        state = WORLD.truth(scene, np.arange(17) / 8, height=64, width=64)
        assert np.median(state.visible.sum(1)) >= 8


def test_the_camera_moves_as_it_should_and_never_too_fast() -> None:
    kinds = set()
    for scene, times, size in scenes(WORLD, 60):
        camera = scene.camera(times)
        turn = np.diff(np.unwrap(camera.azimuth, period=360))
        steps = {
            "left": -turn,
            "right": turn,
            "in": -np.diff(camera.distance),
            "out": np.diff(camera.distance),
            "up": np.diff(camera.elevation),
        }
        kinds.add(scene.motion)
        np.testing.assert_allclose(steps[scene.motion], steps[scene.motion][0], atol=1e-9)
        assert (steps[scene.motion] > 0).all()
        assert camera.distance.min() >= DISTANCES[0] - 1e-9
        assert camera.distance.max() <= DISTANCES[1] + 1e-9
        assert camera.elevation.min() >= ELEVATIONS[0] - 1e-9
        assert camera.elevation.max() <= ELEVATIONS[1] + 1e-9
        moved = np.linalg.norm(np.diff(project(CENTRES, camera, **size), axis=0), axis=-1)
        assert moved.max() < 0.08 * min(size.values())
    assert kinds == {*MOTIONS}


def test_the_box_stays_within_the_picture() -> None:
    for scene, times, size in scenes(WORLD, 30, frames=5):
        frames = WORLD.render(scene, times, **size)
        rim = np.concatenate([frames[:, :1], frames[:, -1:]], 1)
        assert (rim == frames[0, 0, 0]).all() and (frames[:, :, (0, -1)] == frames[0, 0, 0]).all()


def test_moments_do_not_depend_on_those_asked_for_beside_them() -> None:
    for scene, times, size in scenes(WORLD, 6):
        whole = WORLD.render(scene, times, **size)
        some = WORLD.render(scene, times[[11, 3, 16]], **size)
        np.testing.assert_array_equal(some, whole[[11, 3, 16]])


def test_everything_is_used() -> None:
    drawn = [scene for scene, _, _ in scenes(WORLD, 150)]
    assert {scene.place for scene in drawn} == {*GROUNDS}
    assert {scene.body for scene in drawn} == {*COLOURS}
    assert all(contrast(scene.body, scene.place) >= 100 for scene in drawn)


def test_captions_tell_the_way_of_the_camera() -> None:
    for index, (scene, _, _) in enumerate(scenes(WORLD, 60)):
        short, long = WORLD.captions(scene, stream(3, index))
        assert len(short.text) < 130 and len(long.text) < 400 and long.kind == "descriptive"
        assert (short.text + long.text).isascii()
        assert f"{scene.body} box" in long.text and marker_colours(scene.body)[4] in long.text
        for way, other in (("left", "right"), ("right", "left")):
            assert (way in long.text) == (scene.motion == way)
            assert not (scene.motion == way and other in short.text)


def test_captions_leave_slots_out() -> None:
    scene = next(scene for scene, _, _ in scenes(WORLD, 20) if scene.motion == "left")
    texts = [WORLD.captions(scene, stream(7, index))[0].text for index in range(100)]
    assert 50 < sum(scene.body in text for text in texts) < 100
    assert 50 < sum("left" in text for text in texts) < 100
    assert len({*texts}) > 15


def test_captions_of_stills_tell_of_no_motion() -> None:
    for index, (scene, _, _) in enumerate(scenes(WORLD, 30, frames=1)):
        for caption in WORLD.captions(scene, stream(3, index)):
            assert "camera" not in caption.text and "degrees" not in caption.text


def test_reading_an_empty_picture_finds_nothing_and_one_of_noise_is_no_error() -> None:
    plain = np.full((2, 48, 64, 3), 90, np.uint8)
    read = WORLD.read(plain)
    assert not read.visible.any() and np.isnan(read.camera.distance).all()
    WORLD.read(stream(0).integers(0, 256, plain.shape, np.uint8))
