"""Which frame is on display when: rates, steady and not, and picking frames by time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

Pixels = UInt8[np.ndarray, "height width 3"]

Rate = float | int
"""Frames per second."""

Shown = tuple[float, Callable[[], Pixels]]
"""A decoded frame: the second at which it appears, and its pixels once they are asked for."""

# Containers round timestamps to milliseconds, so a frame that is due may come later by so many
# seconds.
_ROUNDING = 0.001


def frames_at_rate(frames: int, native: Rate, *, fps: Rate) -> int:
    """How many frames at rate `fps` are `frames` frames at rate `native`: at least one of any."""
    if frames <= 1 or not native:
        return frames
    # Without the small number rounding would now and then count a frame that begins at the end.
    return max(1, math.ceil(frames * fps / native - 1e-6))


def cadence(
    times: Sequence[float], rate: Rate | None, *, last: float | None = None
) -> tuple[float, float, bool]:
    """Frames per second, duration in seconds and whether the rate varies, of frames at `times`.

    `times` are ascending seconds. `rate`, what the header says if anything, is believed only for a
    single frame, or where it is so near that it never leads to another frame: timestamps are
    rounded (matroska's to milliseconds), and 0 or nonsense headers exist. `last` is how long the
    last frame stays, if that is known; where the rate is steady it counts if that is longer than
    others, as in a GIF that ends still.
    """
    count, span = len(times), times[-1] - times[0]
    if count == 1 or span <= 0:
        return (float(rate), count / rate, False) if rate else (0.0, 0.0, False)
    interval = span / (count - 1)
    unsteady = np.abs(times[0] + interval * np.arange(count) - np.asarray(times)).max()
    if unsteady > interval / 4:
        seconds = span + (last or float(np.median(np.diff(times))))
        return count / seconds, seconds, True
    nominal = float(rate or round(1 / interval))
    fps = nominal if abs(nominal * interval - 1) * count < 0.1 else 1 / interval
    held = last if last and last > 1.5 * interval else 1 / fps
    return fps, (count - 1) / fps + held, False


def steadied(shown: Iterator[Shown], fps: Rate) -> Iterator[Shown]:
    """Frames of a steady rate with the rounding of their timestamps undone."""
    for time, pixels in shown:
        yield round(time * fps) / fps, pixels


def pick(shown: Iterator[Shown], times: Sequence[float], *, hold: float) -> list[Pixels] | None:
    """The frame on display at each of the ascending `times`; None if `shown` begins too late.

    The last frame stays for `hold` seconds; times after that get none. Only frames that serve are
    converted to pixels.
    """
    picked: list[Pixels] = []
    current: Shown | None = None
    for following in shown:
        while len(picked) < len(times) and following[0] > times[len(picked)] + _ROUNDING:
            if current is None:
                return None
            # Only a frame held over several times is asked twice; the second answer is the first.
            current = _once(current)
            picked.append(current[1]())
        if len(picked) == len(times):
            return picked
        current = following
    if current is not None:
        current = _once(current)
        end = current[0] + hold
        # A frame that would begin just where the last one ends is one that is missing.
        picked.extend(current[1]() for time in times[len(picked) :] if time < end - 1e-6)
    return picked


def _once(frame: Shown) -> Shown:
    pixels = frame[1]()
    return frame[0], lambda: pixels
