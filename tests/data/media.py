"""Small real media files for tests: frames that carry their number as their brightness."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_DARKEST, _STEP = 30, 6


def numbered(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [count, height, width, 3]: flat grey frames, each brighter than the last."""
    levels = (_DARKEST + _STEP * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """Which numbers the frames carry."""
    levels = frames.reshape(len(frames), -1).mean(axis=1)
    return [round(float(level - _DARKEST) / _STEP) for level in levels]


def write_movie(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    source: str = "rgb24",
    rate: Fraction | int = 10,
    stamps: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Encodes frames with PyAV; `stamps` are their times in frames, if not 0, 1, 2..."""
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = layout
        stream.options = dict(options or {})
        stream.codec_context.time_base = 1 / Fraction(rate)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format=source)
            frame.pts = stamps[index] if stamps else index
            frame.time_base = 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file of half a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(path: Path) -> Path:
    """Says in an MP4 that its picture is to be turned by a quarter clockwise for display."""
    data = bytearray(path.read_bytes())
    # The matrix stands 44 bytes after the name of the track header, in 16.16 and 2.30 fixed point.
    place = data.index(b"tkhd") + 44
    one = 1 << 16
    data[place : place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def restamp(path: Path, target: Path) -> Path:
    """Copies a video with timestamps in the order of storage, as careless writers do."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        step = int(1 / (source.streams.video[0].average_rate * source.streams.video[0].time_base))
        for index, packet in enumerate(p for p in source.demux(video=0) if p.dts is not None):
            packet.pts = packet.dts = index * step
            packet.stream = stream
            container.mux(packet)
    return target
