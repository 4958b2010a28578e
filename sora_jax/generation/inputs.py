"""Videos and images that a user gives, as frames at the rate and size that a model can go on from.

Whatever is converted is said.
"""

from __future__ import annotations

import logging
import os

import numpy as np
from jaxtyping import UInt8

from sora_jax.arrays import Size
from sora_jax.data.framing import fitted, resized
from sora_jax.data.video import frames_at_rate, probe, read_clip
from sora_jax.generation.clip import Clip

log = logging.getLogger("sora_jax")

Frames = UInt8[np.ndarray, "frames height width 3"]

Given = str | os.PathLike[str] | np.ndarray | Clip
"""A file, a clip, or uint8 frames [frames, height, width, 3] (an image without the first axis)."""


def read_frames(
    given: Given, *, fps: float, what: str = "video", count: int | None = None
) -> Frames:
    """Returns the frames of what was given at the rate `fps`, nearest in time; `what` names it.

    An array is taken to be at that rate; `count` frames are read, by default all. Raises ValueError
    for an array that is no video, and VideoError for a file that cannot be read.
    """
    if isinstance(given, Clip):
        return _first(_at_rate(given.frames, given.fps, fps, what), count, what)
    if isinstance(given, np.ndarray):
        return _first(_array(given, what), count, what)
    known = probe(given)
    rate = fps if known.fps else None
    if known.fps and known.fps != fps:
        log.warning("%s %s: read at %g frames per second, not %g", what, given, fps, known.fps)
    _say_first(known.frames_at(rate), count, what)
    return read_clip(given, count=count, fps=rate, known=known)


def _first(
    frames: Frames, count: int | None, what: str
) -> UInt8[np.ndarray, "count height width 3"]:
    _say_first(len(frames), count, what)
    return frames[:count]


def _say_first(there: int, count: int | None, what: str) -> None:
    if count is not None and there > count:
        log.warning("%s: the first %d of %d frames are taken", what, count, there)


def _array(given: np.ndarray, what: str) -> Frames:
    frames = given[None] if given.ndim == 3 else given
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"{what} is an array of {given.dtype} {given.shape}; give uint8 [frames, height, "
            "width, 3], or [height, width, 3] for an image"
        )
    return frames


def _at_rate(
    frames: Frames, rate: float, fps: float, what: str
) -> UInt8[np.ndarray, "count height width 3"]:
    if rate == fps or len(frames) == 1:
        return frames
    log.warning("%s: read at %g frames per second, not %g", what, fps, rate)
    # As files are read: as many as begin before the end, each the one on display at its time.
    count = frames_at_rate(len(frames), rate, fps=fps)
    shown = np.floor(np.arange(count) * rate / fps + 1e-6).astype(int)
    return frames[np.minimum(shown, len(frames) - 1)]


def fit(
    frames: UInt8[np.ndarray, "frames own_height own_width 3"],
    *,
    height: int | None = None,
    width: int | None = None,
    what: str = "video",
) -> Frames:
    """Returns frames in their own aspect ratio, as large as height x width holds.

    A side that is not given does not bind; without both the frames stay as they are. Never cropped
    or padded. Raises ValueError for a side below 1.
    """
    if height is None and width is None:
        return frames
    if any(side is not None and side < 1 for side in (height, width)):
        raise ValueError(f"height {height} and width {width} are impossible; both start at 1")
    own = frames.shape[1:3]
    unbound = 2**30
    box = Size(1, height or unbound, width or unbound)
    size = fitted(*own, box=box, enlarge=float(unbound))
    if size != own:
        log.warning("%s: made %dx%d of %dx%d (height x width)", what, *size, *own)
    if size != (height or size[0], width or size[1]):
        log.warning("%s: its aspect ratio is kept, so it is not %sx%s", what, height, width)
    return resized(frames, *size)


def like(
    frames: UInt8[np.ndarray, "frames own_height own_width 3"],
    other: UInt8[np.ndarray, "others height width 3"],
    *,
    what: str,
) -> Frames:
    """Returns frames at the size of others, stretched where their aspect ratio differs."""
    size = other.shape[1:3]
    if frames.shape[1:3] == size:
        return frames
    log.warning("%s: made %dx%d of %dx%d, as the first is", what, *size, *frames.shape[1:3])
    return resized(frames, *size)
