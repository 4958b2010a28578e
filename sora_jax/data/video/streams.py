"""Frames of video files through PyAV (FFmpeg)."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from sora_jax.data.video.media import Media, Probe, VideoError, is_local, named, opened
from sora_jax.data.video.timing import Shown, cadence

# PyAV 18, the last one for Python 3.11, refuses files with a tag that is not in UTF-8 unless told;
# later ones accept them untold, and know no such word.
_LENIENT: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)

# How many frames are decoded of a file of suspicious timestamps, to see if they are in order.
_CHECKED = 24

# A file that was cut short ends in a frame that is cut too, and up to this many frames before it in
# display order may refer to it: damage so near the end is taken for the end.
_TORN = 16


def probe_stream(media: Media) -> Probe:
    """The probe of a video file: every packet is read, one frame (seldom more) decoded.

    Headers are not believed: packets are counted, so that a file cut short has the frames it still
    has. Raises VideoError where there is no video or no frame decodes.
    """
    with _video(media) as (container, stream):
        stamps, frames = _scan(container, stream)
        if not frames or not stamps:
            raise VideoError(named(media), "not one frame can be decoded")
        times = _seconds(stamps, stream)
        shown = [frame.pts for frame in frames if frame.pts is not None]
        rate = float(stream.guessed_rate) if stream.guessed_rate else None
        fps, seconds, variable = cadence(times, rate)
        rotation = round(frames[0].rotation / 90) * 90 % 360
        height, width = _display_size(frames[0], float(stream.sample_aspect_ratio or 1), rotation)
        return Probe(
            frames=len(times) if fps else 1,
            height=height,
            width=width,
            fps=fps,
            seconds=seconds,
            variable=variable,
            start=times[0],
            rotation=rotation,
            counted=None in stamps or len(shown) < len(frames) or shown != sorted(shown),
            bits=max(component.bits for component in frames[0].format.components),
            clear=_is_clear(frames[0]),
        )


def _seconds(stamps: list[int | None], stream: VideoStream) -> list[float]:
    """The display times of all frames; by the header's rate if some have no timestamp."""
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(stamps):
        return [float(stamp * (stream.time_base or 1)) for stamp in sorted(known)]
    if not stream.guessed_rate:
        raise ValueError("neither timestamps nor a frame rate")
    return [float(index / stream.guessed_rate) for index in range(len(stamps))]


def shown_frames(media: Media, probe: Probe, *, since: float) -> Iterator[Shown]:
    """The frames of a file in order, from a keyframe before second `since` (hopefully) on.

    Frames too early to be on display then may be left out, where no other refers to them.
    A container without a good index may begin later than asked: `since=0` is the beginning always.
    Where the file is damaged, asking for the pixels of a damaged frame raises ValueError, and what
    FFmpeg cannot get over raises its error after the frames before it; at the very end, both are
    just the end.
    """
    time, torn = 0.0, probe.seconds - _TORN / (probe.fps or 1)
    with _video(media) as (container, stream):
        if since > 0 and not probe.counted:
            _seek(container, stream, since + probe.start)
        converter = VideoReformatter()
        # At a steady rate no frame that comes so much earlier is on display at `since`.
        first = 0.0 if probe.counted or probe.variable or not probe.fps else since - 1.5 / probe.fps
        before = (first + probe.start) / (stream.time_base or 1)
        try:
            for index, frame in enumerate(_decoded(container, stream, before=before)):
                time = _time(index, frame, stream, probe)
                if frame.is_corrupt and time >= torn:
                    return
                yield time, functools.partial(_pixels, frame, probe, converter)
        except FFmpegError:
            if time < torn:
                raise


def _time(index: int, frame: VideoFrame, stream: VideoStream, probe: Probe) -> float:
    """When a frame appears, in seconds from the first; `index` counts from where decoding began."""
    if probe.counted:
        return index / (probe.fps or 1)
    if frame.pts is None:
        raise ValueError("a frame has no timestamp")
    return float(frame.pts * (stream.time_base or 1)) - probe.start


@contextlib.contextmanager
def _video(media: Media) -> Iterator[tuple[InputContainer, VideoStream]]:
    with contextlib.ExitStack() as stack:
        # By name where possible: reading through a Python file takes the interpreter lock.
        file = os.fspath(media) if is_local(media) else stack.enter_context(opened(media))
        try:
            container = stack.enter_context(av.open(file, "r", **_LENIENT))
        except InvalidDataError as error:
            reason = "it is no video, or its beginning or its index is damaged or missing"
            raise VideoError(named(media), reason) from error
        for stream in container.streams.video:
            # The cover of an album is a video stream of one picture.
            if not stream.disposition & Disposition.attached_pic:
                yield container, stream
                return
        raise VideoError(named(media), "it has no video, only " + _kinds(container))


def tags(media: Media) -> dict[str, str]:
    """What a video file says about itself as a whole."""
    with _video(media) as (container, _):
        return dict(container.metadata)


def _kinds(container: InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "an empty container"


def _scan(
    container: InputContainer, stream: VideoStream
) -> tuple[list[int | None], list[VideoFrame]]:
    """The timestamps of all packets that will be shown, and the first frames."""
    stamps: list[int | None] = []
    frames: list[VideoFrame] = []
    end = 0
    with contextlib.suppress(FFmpegError):
        for packet in container.demux(stream):
            final = packet.dts is None and not packet.size
            # An edit list keeps some packets from being shown.
            if not final and not packet.is_discard:
                stamps.append(packet.pts)
                # Empty packets repeat the frame before, of which there is none after the last.
                end = len(stamps) if packet.size else end
            wanted = _CHECKED if _suspicious(container, stream, stamps) else 1
            if len(frames) < wanted and (packet.size or final):
                with contextlib.suppress(FFmpegError):
                    frames.extend(packet.decode())
    return stamps[:end], frames


def _suspicious(container: InputContainer, stream: VideoStream, stamps: list[int | None]) -> bool:
    """Whether timestamps may not be in display order.

    AVI has none of its own. And some writers put frames that are displayed in another order than
    they are stored under timestamps in order of storage.
    """
    first = [stamp for stamp in stamps[:_CHECKED] if stamp is not None]
    stored_in_order = first == sorted(first)
    return "avi" in container.format.name or (stored_in_order and stream.codec_context.has_b_frames)


def _seek(container: InputContainer, stream: VideoStream, seconds: float) -> None:
    # Seeking forgets how far frames are reordered, and guessing anew would lose some.
    depth = stream.codec_context.reorder_depth
    container.seek(int(seconds / (stream.time_base or 1)), stream=stream, backward=True)
    stream.codec_context.reorder_depth = depth


def _decoded(
    container: InputContainer, stream: VideoStream, *, before: float
) -> Iterator[VideoFrame]:
    """All frames from here on, but of those before a timestamp only what others refer to."""
    try:
        for packet in container.demux(stream):
            skipped = packet.pts is not None and packet.pts < before
            stream.codec_context.skip_frame = "NONREF" if skipped else "DEFAULT"
            # Theora's empty packets repeat a frame; the decoder would take one for the end.
            if packet.size or packet.dts is None:
                yield from packet.decode()
    except FFmpegError:
        with contextlib.suppress(FFmpegError):
            # What the decoder still holds comes before the damage.
            yield from stream.decode(None)
        raise


def _display_size(frame: VideoFrame, aspect: float, rotation: int) -> tuple[int, int]:
    """Height and width with square pixels: the smaller side grows, so no pixel is lost."""
    height, width = frame.height, frame.width
    # Beyond 4 the header is nonsense.
    if 1 / 4 <= aspect <= 4:
        width = round(width * max(aspect, 1))
        height = round(height / min(aspect, 1))
    return (width, height) if rotation % 180 else (height, width)


def _pixels(
    frame: VideoFrame, probe: Probe, converter: VideoReformatter
) -> UInt8[np.ndarray, "height width 3"]:
    """RGB as displayed, over black where the frame is transparent."""
    if frame.is_corrupt:
        raise ValueError(f"the frame at {frame.time:.3f} s is damaged")
    height, width = probe.height, probe.width
    if probe.rotation % 180:
        height, width = width, height
    layout = "rgba" if _has_alpha(frame) else "rgb24"
    # One thread: the worker processes of a loader use all cores already.
    pixels = converter.reformat(frame, width, height, layout, threads=1).to_ndarray()
    pixels = over_black(pixels) if layout == "rgba" else pixels
    return np.rot90(pixels, probe.rotation // 90)


def _has_alpha(frame: VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _is_clear(frame: VideoFrame) -> bool:
    """Whether a frame is transparent anywhere."""
    if not _has_alpha(frame):
        return False
    return int(frame.reformat(format="rgba").to_ndarray()[..., 3].min()) < 255


def over_black(
    pixels: UInt8[np.ndarray, "height width 4"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue times opacity."""
    opacity = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * opacity + 127) // 255).astype(np.uint8)
