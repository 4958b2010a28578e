"""Frames to MP4, GIF and PNG files that carry what they were made from as metadata."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from etils import epath
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sora_jax.data.video import stills, streams
from sora_jax.data.video.media import Media, VideoError, is_local, named_errors, opened
from sora_jax.data.video.timing import Rate
from sora_jax.files import whole, write_whole

Frames = UInt8[np.ndarray, "frames height width 3"]

# What an MP4 says about itself, beside what was given to `write_video`.
_OWN_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})

# Browsers show a GIF frame of less than 20 ms for 100 ms.
_GIF_SHORTEST = 20

_ENDINGS = (".mp4", ".gif", ".png")


def write_video(
    path: str | os.PathLike[str],
    frames: Frames,
    *,
    fps: Rate,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes frames to `path`, local or gs://, in the format of its ending.

    .mp4   H.264, nearly without visible loss (CRF 17). Of even height and width in yuv420p, which
           everything plays; an odd size is kept exactly, in yuv444p, which browsers and ffmpeg play
           but some phones do not: cropping or padding would change what was made.
    .gif   256 colours chosen for the whole clip, looping. Runs of equal frames become one longer
           frame, and above 50 frames per second it plays at 50.
    .png   one frame, without loss.

    The folder must exist. The file appears whole or not at all. Raises ValueError for what the
    format cannot hold, and VideoError naming the path if it cannot be written.
    """
    data = encode(frames, os.fspath(path), fps=fps, metadata=metadata)
    with _named_failure(path):
        write_whole(path, data)


def write_stream(
    path: str | os.PathLike[str],
    chunks: Iterable[Frames],
    *,
    fps: Rate,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes frames that come in chunks, each gone before the next comes; see `write_video`.

    Only an .mp4 can be written so: a .gif has one palette for all of its frames, which are gathered
    first.
    """
    name = os.fspath(path)
    if _check_format(name, 2, fps) != ".mp4":
        write_video(name, np.concatenate(list(chunks)), fps=fps, metadata=metadata)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        _write_mp4(file, chunks, fps, metadata or {})
        with _named_failure(path), whole(name) as target:
            epath.Path(file).copy(target, overwrite=True)


@contextlib.contextmanager
def _named_failure(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever keeps a file from being written into a VideoError."""
    try:
        yield
    except Exception as error:  # a bucket fails in ways of its own
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(os.fspath(path), f"cannot be written: {reason}") from error


def check_output(path: str | os.PathLike[str], *, frames: int, fps: Rate | None = None) -> None:
    """Raises what `write_video` would for so many frames, before the work that makes them.

    That is ValueError for what the format cannot hold, and VideoError if the folder is missing or
    may not be written to (of a bucket that is not looked at). A rate not yet known is None.
    """
    _check_format(os.fspath(path), frames, fps)
    check_folder(path)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raises VideoError if a file cannot be written at `path`: its folder is missing, say.

    Of a bucket that is not looked at.
    """
    name = os.fspath(path)
    folder = Path(name).parent
    if is_local(name):
        if not folder.is_dir():
            raise VideoError(name, f"there is no folder {folder}")
        try:
            # Asking for permission would not do: root has every permission, and cannot write to
            # what is no disk.
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise VideoError(name, f"the folder {folder} may not be written to") from error


def _check_format(name: str, frames: int, fps: Rate | None) -> str:
    """The ending, if so many frames can be written under it."""
    suffix = Path(name).suffix.lower()
    if suffix not in _ENDINGS:
        raise ValueError(f"{name}: {suffix or 'no'} ending; write to one of {', '.join(_ENDINGS)}")
    if suffix == ".png" and frames != 1:
        raise ValueError(f"{name}: a .png holds one frame, not {frames}; write to .mp4 or .gif")
    if suffix != ".png" and fps is not None and not fps > 0:
        raise ValueError(f"{name}: fps must be above 0, not {fps}")
    return suffix


def encode(
    frames: Frames, name: str, *, fps: Rate, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of the file that `write_video` would write to a path that ends like `name`."""
    encoders = {".mp4": _mp4, ".gif": _gif, ".png": _png}
    if not frames.size:
        raise ValueError(f"{name}: there is nothing to write in frames of shape {frames.shape}")
    suffix = _check_format(name, len(frames), fps)
    return encoders[suffix](frames, fps, metadata or {})


def read_metadata(path: Media) -> dict[str, str]:
    """The metadata that `write_video` put into a file; {} if it has none of ours.

    Raises VideoError if the file cannot be read.
    """
    with named_errors(path):
        with opened(path) as file:
            if stills.is_image(file.read(12)):
                file.seek(0)
                return _image_metadata(file)
        return {key: tag for key, tag in streams.tags(path).items() if key not in _OWN_TAGS}


def _image_metadata(file: IO[bytes]) -> dict[str, str]:
    with Image.open(file) as image:
        if image.format == "PNG":
            return {key: str(text) for key, text in getattr(image, "text", {}).items()}
        with contextlib.suppress(ValueError, AttributeError):
            metadata = json.loads(image.info.get("comment", b""))
            return {str(key): str(text) for key, text in metadata.items()}
    return {}


def _mp4(frames: Frames, fps: Rate, metadata: Mapping[str, str]) -> bytes:
    # Moving the index to the front, so that a browser can begin to play, needs a file with a name.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        _write_mp4(file, [frames], fps, metadata)
        return file.read_bytes()


def _write_mp4(
    file: Path, chunks: Iterable[Frames], fps: Rate, metadata: Mapping[str, str]
) -> None:
    flags = {"movflags": "use_metadata_tags+faststart"}
    with av.open(str(file), "w", options=flags) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.options = {"crf": "17", "preset": "medium", **_repeatable()}
        layout = ""
        for frames in chunks:
            if not layout:
                stream.height, stream.width = frames.shape[1:3]
                odd = stream.height % 2 or stream.width % 2
                layout = stream.pix_fmt = "yuv444p" if odd else "yuv420p"
                _say_colours(stream.codec_context)
            for frame in _converted(frames, layout):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@functools.cache
def _repeatable() -> dict[str, str]:
    """Options with which the same frames give the same file: with AVX-512, libx264 165 does not."""
    told = Path("/proc/cpuinfo")
    if told.exists() and " avx512" in told.read_text():
        return {"x264-params": "asm=avx2"}
    return {}


def _say_colours(context: av.VideoCodecContext) -> None:
    # Players guess the matrix from the height where it is not said, and guess differently.
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709


def _converted(frames: Frames, layout: str) -> Iterator[av.VideoFrame]:
    for pixels in frames:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        yield frame.reformat(
            format=layout, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )


def _gif(frames: Frames, fps: Rate, metadata: Mapping[str, str]) -> bytes:
    palette = _palette(frames)
    images = [Image.fromarray(pixels).quantize(palette=palette) for pixels in frames]
    file = io.BytesIO()
    images[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=_gif_durations(len(frames), fps),
        loop=0,
        comment=json.dumps(dict(metadata)).encode(),
    )
    return file.getvalue()


def _palette(frames: Frames) -> Image.Image:
    """256 colours that serve a clip: one palette, or its still parts would flicker."""
    sampled = frames[np.linspace(0, len(frames) - 1, min(len(frames), 16)).astype(int)]
    stacked = sampled.reshape(-1, frames.shape[2], 3)
    return Image.fromarray(stacked).quantize(256, method=Image.Quantize.MEDIANCUT)


def _gif_durations(count: int, fps: Rate) -> list[int]:
    """Milliseconds, multiples of 10 as GIF knows no others, whose sums stay true to the rate."""
    hundredths = np.round(np.arange(count + 1) * max(100 / fps, _GIF_SHORTEST / 10))
    return [int(step) * 10 for step in np.diff(hundredths)]


def _png(frames: Frames, fps: Rate, metadata: Mapping[str, str]) -> bytes:
    tags = PngInfo()
    for key, text in metadata.items():
        tags.add_text(key, text)
    file = io.BytesIO()
    Image.fromarray(frames[0]).save(file, "PNG", pnginfo=tags)
    return file.getvalue()
