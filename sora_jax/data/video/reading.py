"""Any video or image file to a probe, and to frames at any time or rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from sora_jax.data.video import stills, streams
from sora_jax.data.video.media import Media, Probe, VideoError, named, named_errors, opened
from sora_jax.data.video.timing import Pixels, Rate, Shown, pick, steadied

Frames = UInt8[np.ndarray, "frames height width 3"]


def probe(media: Media) -> Probe:
    """What a file holds, judged from its contents, not from its name or its headers.

    `media` is a path, local or gs://, or the bytes of a file. Reads all of the file but decodes
    only its first frame (of a GIF or an animated PNG: all). Raises VideoError with the reason if
    there is no frame to be had.
    """
    with named_errors(media):
        return stills.probe_image(media) if _is_image(media) else streams.probe_stream(media)


def read_clip(
    media: Media,
    start: int = 0,
    *,
    count: int | None = None,
    fps: Rate | None = None,
    known: Probe | None = None,
) -> Frames:
    """Frames `start` to `start + count` (None: to the end), uint8 RGB, fewer where the clip ends.

    Frames are counted at the rate `fps`, by default the file's own, and each is the one on display
    at its time: nothing is blended. They are upright, have square pixels (the smaller side is
    enlarged), and lie over black where the file is transparent (the alpha channel that WebM keeps
    in a second stream is not looked at); grey and deeper than 8 bits become 8-bit RGB. `known` is
    the file's probe, if there is one already. Raises VideoError where the file is damaged.
    """
    with named_errors(media):
        known = known or probe(media)
        return read_at(media, known.times(start, count, fps=fps), known=known)


def read_at(media: Media, times: Sequence[float], *, known: Probe | None = None) -> Frames:
    """The frames on display at the given ascending seconds from the first frame on.

    Times after the end get none. Otherwise like `read_clip`.
    """
    with named_errors(media):
        known = known or probe(media)
        if known.seconds:
            times = [time for time in times if time < known.seconds]
        if not times:
            return np.zeros((0, known.height, known.width, 3), np.uint8)
        picked = _picked(media, known, times)
        if not picked:
            raise VideoError(named(media), f"it ends before second {times[0]:.3f}")
        return np.stack(picked)


def _picked(media: Media, known: Probe, times: Sequence[float]) -> list[Pixels]:
    if _is_image(media):
        # Their last frame may be held, to the end that `times` do not pass.
        return _pick(stills.shown_images(media, known), known, times, hold=math.inf) or []
    if times[0] > 0:
        try:
            picked = _pick(streams.shown_frames(media, known, since=times[0]), known, times)
        except Exception:
            picked = None
        if picked:
            return picked
    # A bad index leads to a wrong or unreadable place; the beginning is never wrong, only slower.
    return _pick(streams.shown_frames(media, known, since=0.0), known, times) or []


def _pick(
    shown: Iterator[Shown], known: Probe, times: Sequence[float], *, hold: float | None = None
) -> list[Pixels] | None:
    if known.variable or not known.fps:
        return pick(shown, times, hold=math.inf)
    return pick(steadied(shown, known.fps), times, hold=hold or 1 / known.fps)


def _is_image(media: Media) -> bool:
    with opened(media) as file:
        head = file.read(12)
    if not head:
        raise VideoError(named(media), "the file is empty")
    return stills.is_image(head)
