"""Promises of the pixel metrics."""

from __future__ import annotations

import numpy as np
import pytest

from sora_jax.evaluation.frames import psnr, ssim


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (2, 24, 32, 3), dtype=np.uint8)


def test_equal_frames_are_perfect(frames: np.ndarray):
    assert np.isinf(psnr(frames, frames)).all()
    assert ssim(frames, frames) == pytest.approx(1)


def test_psnr_of_a_constant_error_is_known(frames: np.ndarray):
    assert psnr(frames, frames + np.uint8(10)) == pytest.approx(20 * np.log10(25.5))


def test_ssim_of_a_change_in_brightness_is_its_luminance_term():
    dark = np.full((1, 16, 16, 3), 51, np.uint8)
    bright = np.full((1, 16, 16, 3), 102, np.uint8)
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert ssim(dark, bright) == pytest.approx(expected, rel=1e-6)


def test_ssim_agrees_with_an_independent_implementation(frames: np.ndarray):
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    noisy = np.clip(frames + np.random.default_rng(1).normal(0, 20, frames.shape), 0, 255)
    noisy = noisy.astype(np.uint8)
    luma = [clip @ np.array([0.299, 0.587, 0.114]) / 255 for clip in (frames, noisy)]
    _, full = skimage.structural_similarity(
        luma[0][0],
        luma[1][0],
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert ssim(frames, noisy)[0] == pytest.approx(full[5:-5, 5:-5].mean(), rel=1e-6)


def test_frames_smaller_than_the_window_are_refused():
    small = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="8x8"):
        ssim(small, small)
