"""Promises of the filter over joints in time: errors fade, movement stays, chunks are one clip."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from sora_jax.models.deblocking import deblocked

smooth = jax.jit(functools.partial(deblocked, block=4, reach=0.2))


def clip(*levels: float) -> np.ndarray:
    """Frames of one level each."""
    return np.broadcast_to(np.float32(levels).reshape(1, -1, 1, 1, 1), (1, len(levels), 2, 2, 3))


def test_a_small_jump_is_spread_over_the_block_and_its_end_stays() -> None:
    frames, last = smooth(clip(0, 0.01, 0.01, 0.01, 0.01), None)
    found = np.asarray(frames)[0, :, 0, 0, 0]
    np.testing.assert_allclose(found, [0, 0.0025, 0.005, 0.0075, 0.01], atol=1e-4)
    np.testing.assert_allclose(last, 0.01, rtol=1e-6)


@pytest.mark.parametrize("jump", [0.2, -0.2, 1.5])
def test_a_large_jump_is_movement(jump: float) -> None:
    moved = clip(0.1, *[0.1 + jump] * 4)
    np.testing.assert_array_equal(smooth(moved, None)[0], moved)


def test_each_pixel_is_judged_alone() -> None:
    video = np.array(clip(0, 0.05, 0.05, 0.05, 0.05))
    video[0, 1:, 0, 0] = 1.0
    frames = np.asarray(smooth(video, None)[0])
    np.testing.assert_array_equal(frames[0, 1:, 0, 0], 1.0)
    assert (frames[0, 1:4, 0, 1] < 0.05).all()


def test_frames_in_chunks_equal_the_whole() -> None:
    video = 0.1 * np.random.default_rng(0).normal(size=(2, 13, 2, 3, 3)).astype(np.float32)
    whole, end = smooth(video, None)
    first, last = smooth(video[:, :5], None)
    rest, last = smooth(video[:, 5:], last)
    np.testing.assert_allclose(np.concatenate([first, rest], 1), whole, atol=1e-6)
    np.testing.assert_array_equal(last, end)
    np.testing.assert_array_equal(last, video[:, -1])
    assert np.abs(whole - video).max() > 0.01


def test_an_image_stays_as_it_is() -> None:
    image = clip(0.3)
    frames, last = smooth(image, None)
    np.testing.assert_array_equal(frames, image)
    np.testing.assert_array_equal(last, image[:, 0])
