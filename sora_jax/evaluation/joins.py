"""How well what is made joins what was given, pixel by pixel and move by move.

A measure of a join is told the frame, or the column, at which the new part begins. `loop_closure`,
`colour_drift` and `diversity` are of whole clips, `given_back` of the frames that were given, and
`monotone` of numbers. Each has values that speak for themselves: what real clips have (the
ceiling), at a frame in their middle if it is a join; and what a hard cut, a cross-fade or a frozen
frame have (the floors).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from scipy import stats

from sora_jax.evaluation.frames import psnr

Frames = UInt8[ndarray, "frames height width 3"]

# A quarter of a grey level: still pictures change by less, and would divide by nothing.
_STILL = 0.25

# PSNR of equal frames, in dB, which would be infinite.
_EQUAL = 100.0

# Windows of 16 x 16 pixels, one every 4, moved by up to 6 in each direction.
_WINDOW, _STRIDE, _REACH = 16, 4, 6


def changes(frames: Frames) -> Float[ndarray, " steps"]:
    """The mean absolute change of a pixel from each frame to the next, in grey levels of 255."""
    return np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))


def seam_ratio(frames: Frames, at: int, *, around: int = 8) -> float:
    """The change into frame `at` over the median of the changes around it: 1 without a seam.

    around  how many changes on either side are looked at.

    Raises ValueError for a frame without one on both sides, and where there is no other change.
    """
    _check_place(frames, at)
    step = changes(frames)
    low, high = max(0, at - 1 - around), at + around
    others = np.concatenate([step[low : at - 1], step[at:high]])
    if not others.size:
        raise ValueError(f"{len(frames)} frames have no change to compare a seam with; give 3")
    return float((step[at - 1] + _STILL) / (np.median(others) + _STILL))


def loop_closure(frames: Frames) -> float:
    """The `seam_ratio` from the last frame to the first. Raises ValueError for less than three."""
    if len(frames) < 3:
        raise ValueError(f"a loop that can have a seam has 3 frames or more, not {len(frames)}")
    half = len(frames) // 2
    return seam_ratio(np.roll(frames, half, axis=0), half)


def velocity_mismatch(frames: Frames, at: int, *, over: int = 4) -> float:
    """How differently things move before and after frame `at`, in pixels per frame.

    The distance between the mean velocities on either side, each over `over` steps; 0 where nothing
    moves. Things that bounce have a mismatch in real clips too. Raises ValueError where there are
    less than two frames on either side, and for pictures of less than 4 pixels a side.
    """
    if not 2 <= at <= len(frames) - 2:
        raise ValueError(
            f"at={at} of {len(frames)} frames: how things move takes two frames on both sides"
        )
    if min(frames.shape[1:3]) < _STRIDE:
        raise ValueError(
            f"pictures of {frames.shape[1]}x{frames.shape[2]} pixels are too small to see a move "
            f"in; give {_STRIDE} a side or more"
        )
    sides = frames[max(0, at - 1 - over) : at], frames[at : at + 1 + over]
    # Things that move leave their windows, so each side is summed up before it is compared.
    before, after = (_velocity(side) for side in sides)
    return float(np.linalg.norm(before - after))


def _velocity(frames: Frames) -> Float[ndarray, "2"]:
    """The mean velocity of what moves, down and right, in pixels per frame.

    From each frame to the next it is the mean over windows of the move that explains each best,
    weighted by how much it explains: the inside of a plain thing, and what stands still, say
    nothing of a move.
    """
    planes = np.ascontiguousarray(np.moveaxis(frames, -1, 0), np.float32)
    one, two = planes[:, :-1], planes[:, 1:]
    height, width = one.shape[2:]
    padded = np.pad(one, [(0, 0), (0, 0), (_REACH, _REACH), (_REACH, _REACH)], mode="edge")
    ways = itertools.product(range(-_REACH, _REACH + 1), repeat=2)
    costs = {}
    for down, right in sorted(ways, key=lambda way: way[0] ** 2 + way[1] ** 2):
        top, left = _REACH - down, _REACH - right
        moved = padded[:, :, top : top + height, left : left + width]
        costs[down, right] = _over_windows(np.abs(moved - two).mean(0))
    rest = best = costs[0, 0]
    found = np.zeros((*rest.shape, 2))
    for way, cost in costs.items():
        # A longer way must be better by more than noise.
        better = cost < best - 0.5
        best = np.where(better, cost, best)
        found[better] = way
    weight = (rest - best)[..., None]
    total = np.maximum(weight.sum((1, 2)), 1e-9)
    return ((found * weight).sum((1, 2)) / total).mean(0)


def _over_windows(
    cost: Float[ndarray, "steps height width"],
) -> Float[ndarray, "steps rows columns"]:
    """The mean of each window; of smaller pictures, of the whole."""
    height, width = (length - length % _STRIDE for length in cost.shape[1:])
    rows, columns = height // _STRIDE, width // _STRIDE
    parts = cost[:, :height, :width].reshape(-1, rows, _STRIDE, columns, _STRIDE)
    total = parts.sum((2, 4), dtype=np.float64).cumsum(1).cumsum(2)
    total = np.pad(total, ((0, 0), (1, 0), (1, 0)))
    tall, wide = min(_WINDOW // _STRIDE, rows), min(_WINDOW // _STRIDE, columns)
    ends = total[:, tall:, wide:] + total[:, :-tall, :-wide]
    return (ends - total[:, tall:, :-wide] - total[:, :-tall, wide:]) / (tall * wide * _STRIDE**2)


def border_ratio(frames: Frames, at: int) -> float:
    """The change of pixels from column `at` - 1 to column `at`, over the mean of that between other
    columns: 1 without a border there.

    Raises ValueError for a column without one on both sides, and where there are no others.
    """
    width = frames.shape[2]
    if not 1 <= at < width:
        raise ValueError(f"column {at} has no column on both sides in a picture of {width}")
    if width < 3:
        raise ValueError(f"{width} columns have no change to compare a border with; give 3")
    change = np.abs(np.diff(frames.astype(np.float64), axis=2)).mean(axis=(0, 1, 3))
    return float((change[at - 1] + _STILL) / (np.delete(change, at - 1).mean() + _STILL))


def given_back(
    made: UInt8[ndarray, "_ _ _ 3"],
    given: UInt8[ndarray, "_ _ _ 3"],
    back: UInt8[ndarray, "_ _ _ 3"],
) -> float:
    """How much better than the autoencoder alone what is made holds the frames that were given: the
    mean PSNR of these in it less that in their reconstruction, in dB. 0 where nothing is lost on
    the way; equal frames count as 100 dB.

    made   the frames of what is made that were given.
    given  these as they were.
    back   these as the autoencoder gives them back.

    Raises ValueError for frames of other numbers or sizes, and for none.
    """
    if not made.shape == given.shape == back.shape or not given.size:
        raise ValueError(
            f"what is given back is told of equally many frames of one size, not of {made.shape}, "
            f"{given.shape} and {back.shape}"
        )
    own, codec = (float(np.minimum(psnr(one, given), _EQUAL).mean()) for one in (made, back))
    return own - codec


def colour_drift(frames: Frames, hop: int) -> float:
    """How far the mean colour moves from one hop of so many frames to the next, in grey levels.

    The mean over hops of the length of the step in red, green and blue. Raises ValueError for
    frames that do not hold two hops.
    """
    parts = [frames[start : start + hop] for start in range(0, len(frames) - hop + 1, hop)]
    means = np.array([part.mean(axis=(0, 1, 2)) for part in parts])
    if len(means) < 2:
        raise ValueError(f"{len(frames)} frames do not hold two hops of {hop}")
    return float(np.linalg.norm(np.diff(means, axis=0), axis=1).mean())


def diversity(clips: Sequence[Frames]) -> float:
    """The root mean square difference between clips of one length, pair by pair, in grey levels.

    Raises ValueError for less than two clips.
    """
    pairs = list(itertools.combinations([clip.astype(np.float32) for clip in clips], 2))
    if not pairs:
        raise ValueError("diversity is of two clips or more")
    return float(np.mean([np.sqrt(np.square(one - two).mean()) for one, two in pairs]))


def monotone(values: Sequence[float]) -> float:
    """Spearman's rank correlation of values with their order: 1 if they always rise; 0 if all are
    the same."""
    if len(set(values)) < 2:
        return 0.0
    found: Any = stats.spearmanr(np.arange(len(values)), values)
    return float(found.statistic)


def hard_cut(first: Frames, second: Frames, at: int) -> Frames:
    """The first clip up to frame `at`, then the second: a floor."""
    return np.concatenate([first[:at], second[at:]])


def cross_fade(first: Frames, second: Frames, start: int, end: int) -> Frames:
    """From one clip to another of the same length, blended from frame `start` to `end`: a floor."""
    share = np.clip((np.arange(len(first)) - start + 1) / (end - start + 1), 0, 1)
    share = share[:, None, None, None]
    return np.round(first * (1 - share) + second * share).astype(np.uint8)


def frozen(frames: Frames, at: int, count: int) -> UInt8[ndarray, "_ height width 3"]:
    """The frames of a clip before frame `at`, and the last of these `count` times more: a floor."""
    return np.concatenate([frames[:at], frames[at - 1 : at].repeat(count, axis=0)])


def _check_place(frames: Frames, at: int) -> None:
    if not 1 <= at < len(frames):
        raise ValueError(f"frame {at} has no frame on both sides in a clip of {len(frames)}")
