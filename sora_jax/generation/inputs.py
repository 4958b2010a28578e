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
from sora_jax.data.video import VideoError, frames_at_rate, probe, read_clip
from sora_jax.generation.clip import Clip
from sora_jax.generation.memory import check_frames

log = logging.getLogger("sora_jax")

Frames = UInt8[np.ndarray, "frames height width 3"]

_PART = 2**28
"""Bytes of frames that are held at the size of their file, where they are made smaller."""

Given = str | os.PathLike[str] | np.ndarray | Clip
"""A file, a clip, or uint8 frames [frames, height, width, 3] (an image without the first axis)."""


def read_frames(
    given: Given,
    *,
    fps: float,
    what: str = "video",
    count: int | None = None,
    height: int | None = None,
    width: int | None = None,
    stretched: tuple[int, int] | None = None,
) -> Frames:
    """Returns the frames of what was given at the rate `fps`, nearest in time; `what` names it.

    An array is taken to be at that rate; `count` frames are read, by default all. They keep their
    aspect ratio, as large as `height` x `width` holds: a side that is not given does not bind, and
    without both they keep their size. Or they are `stretched` to (height, width). Never cropped or
    padded. Files are read a part at a time, so that large ones can be made small.

    Raises ValueError for an array that is no video and a side below 1, VideoError for a file that
    cannot be read, and MemoryError for more frames than can be held.
    """
    if isinstance(given, np.ndarray | Clip):
        frames = _array(given, what) if isinstance(given, np.ndarray) else given.frames
        if isinstance(given, Clip):
            frames = _at_rate(frames, given.fps, fps, what)
        frames = _first(frames, count, what)
        own = frames.shape[1:3]
        return resized(frames, *_size(own, height=height, width=width, to=stretched, what=what))
    known = probe(given)
    rate = fps if known.fps else None
    if known.fps and known.fps != fps:
        _say_rate(f"{what} {given}", known.fps, fps)
    if known.clear:
        log.warning("%s %s: what is transparent is black here", what, given)
    if known.bits > 8:
        log.warning("%s %s: its %d bits a colour are read as 8", what, given, known.bits)
    there = known.frames_at(rate)
    _say_first(there, count, what)
    there = there if count is None else min(count, there)
    own = known.height, known.width
    size = _size(own, height=height, width=width, to=stretched, what=what)
    check_frames(Size(there, *size), what=f"{what} {given}")
    at_once = max(1, _PART // (3 * own[0] * own[1]))
    if size == own or there <= at_once:
        return resized(read_clip(given, count=count, fps=rate, known=known), *size)
    parts = []
    for start in range(0, there, at_once):
        try:
            part = read_clip(given, start, count=min(at_once, there - start), fps=rate, known=known)
        except VideoError as error:
            if not parts:
                raise
            # As where all is read at once: a file that ends before it says gives what it has.
            log.warning(
                "%s %s: it ends after %d of %d frames (%s)", what, given, start, there, error
            )
            break
        parts.append(resized(part, *size))
    return np.concatenate(parts)


def _say_rate(what: str, own: float, fps: float) -> None:
    again = ", so that frames are shown more than once" if own < fps else ""
    log.warning("%s: read at %g frames per second, not %g%s", what, fps, own, again)


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
    _say_rate(what, rate, fps)
    # As files are read: as many as begin before the end, each the one on display at its time.
    count = frames_at_rate(len(frames), rate, fps=fps)
    shown = np.floor(np.arange(count) * rate / fps + 1e-6).astype(int)
    return frames[np.minimum(shown, len(frames) - 1)]


def _size(
    own: tuple[int, int],
    *,
    height: int | None,
    width: int | None,
    to: tuple[int, int] | None,
    what: str,
) -> tuple[int, int]:
    """The height and width that frames get, which had others; what is changed is logged."""
    if to is not None:
        if to != own:
            # By more than the rounding of a side.
            alike = abs(to[0] * own[1] - to[1] * own[0]) < max(*to, *own)
            how = "made" if alike else "stretched to"
            log.warning("%s: %s %dx%d of %dx%d, as the first is", what, how, *to, *own)
        return to
    if height is None and width is None:
        return own
    if any(side is not None and side < 1 for side in (height, width)):
        raise ValueError(f"height {height} and width {width} are impossible; both start at 1")
    unbound = 2**30
    box = Size(1, height or unbound, width or unbound)
    size = fitted(*own, box=box, enlarge=float(unbound))
    if size != own:
        log.warning("%s: made %dx%d of %dx%d (height x width)", what, *size, *own)
    if size != (height or size[0], width or size[1]):
        log.warning("%s: its aspect ratio is kept, so it is not %sx%s", what, height, width)
    return size
