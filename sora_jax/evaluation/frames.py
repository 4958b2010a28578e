"""How close two sets of frames are, pixel by pixel.

PSNR = 10 log10(1 / MSE) for values in 0..1
SSIM = mean of (2 m n + c1)(2 cov + c2) / ((m^2 + n^2 + c1)(v + w + c2)) over windows, with the
       means m n, variances v w and covariance under a Gaussian of deviation 1.5 over 11
       pixels, c1 = 0.01^2, c2 = 0.03^2 (Wang et al. 2004, doi 10.1109/TIP.2003.819861), on luma
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

WINDOW, DEVIATION = 11, 1.5
LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601."""


def psnr(
    a: UInt8[ndarray, "frames height width 3"], b: UInt8[ndarray, "frames height width 3"]
) -> Float[ndarray, " frames"]:
    """The peak signal-to-noise ratio of each frame, in dB; infinite for equal frames."""
    error = np.square((a.astype(np.float64) - b) / 255).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)


def ssim(
    a: UInt8[ndarray, "frames height width 3"], b: UInt8[ndarray, "frames height width 3"]
) -> Float[ndarray, " frames"]:
    """The structural similarity of each frame, 1 for equal frames.

    Raises ValueError for frames smaller than the window of 11 x 11 pixels.
    """
    if min(a.shape[1:3]) < WINDOW:
        raise ValueError(f"frames of {a.shape[1]}x{a.shape[2]} are smaller than the SSIM window")
    x, y = (frames @ LUMA / 255 for frames in (a, b))
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    scale = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return (likeness / scale).mean(axis=(1, 2))


def _blurred(x: Float[ndarray, "frames height width"]) -> Float[ndarray, "frames h w"]:
    """Each whole window's Gaussian mean."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    for axis in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=axis)
        x = windows @ weights
    return x
