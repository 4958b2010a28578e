"""Frames of images, still and animated (GIF, PNG, WebP), through Pillow.

FFmpeg would do for most, but not for animated WebP, nor for the disposal rules of GIF.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from sora_jax.data.video.media import Media, Probe, opened
from sora_jax.data.video.streams import over_black
from sora_jax.data.video.timing import Shown, cadence

# Browsers show a frame whose duration is not given for this long.
_UNSTATED = 0.1

# The Exif tag that says which side of a photograph is up.
_ORIENTATION = 0x0112


def is_image(head: bytes) -> bool:
    """Whether a file that begins with these twelve bytes is an image, whatever its name is."""
    return head.startswith((b"GIF8", b"\x89PNG", b"\xff\xd8\xff")) or (
        head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    )


def probe_image(media: Media) -> Probe:
    """The probe of an image. Animations are gone through, but pixels of WebP are not decoded."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(opened(media))
        bits = _bits(file.read(25))
        file.seek(0)
        image = stack.enter_context(Image.open(file))
        image.load()
        height, width, clear = *_upright_size(image), _is_clear(image)
        if _count(image) == 1:
            return Probe(frames=1, height=height, width=width, bits=bits, clear=clear)
        durations = _webp_durations(file) if image.format == "WEBP" else _durations(image)
        starts = [float(start) for start in np.cumsum([0.0, *durations[:-1]])]
        fps, seconds, variable = cadence(starts, None, last=durations[-1])
        return Probe(
            # One that is held is shown again and again.
            frames=len(durations) if variable else max(len(durations), round(seconds * fps)),
            height=height,
            width=width,
            fps=fps,
            seconds=seconds,
            variable=variable,
            bits=bits,
            clear=clear,
        )


def _bits(head: bytes) -> int:
    """Bits of a colour as stored: of a PNG its header says so, as Pillow has halved those of RGB.

    They are the ninth byte of its first chunk, after 16 others.
    """
    return max(8, head[24]) if head.startswith(b"\x89PNG") else 8


def _is_clear(image: Image.Image) -> bool:
    """Whether a frame is transparent anywhere: many have an alpha channel and are not."""
    if not image.has_transparency_data:
        return False
    return int(np.asarray(image.convert("RGBA"))[..., 3].min()) < 255


def shown_images(media: Media, probe: Probe) -> Iterator[Shown]:
    """The frames of an image file from the first on, with their times in seconds."""
    with opened(media) as file, Image.open(file) as image:
        start = 0.0
        for index in range(min(probe.frames, _count(image))):
            image.seek(index)
            image.load()
            yield start, functools.partial(_pixels, image.copy())
            start += _duration(image)


def _count(image: Image.Image) -> int:
    # A phone's JPEG may hold several pictures of one moment, which are no animation.
    return getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP") else 1


def _duration(image: Image.Image) -> float:
    return image.info.get("duration", 0) / 1000 or _UNSTATED


def _durations(image: Image.Image) -> list[float]:
    """Seconds of each frame that is there: a file cut short has those before the cut."""
    durations = []
    for index in range(_count(image)):
        try:
            image.seek(index)
            image.load()
        except (OSError, SyntaxError):
            break
        durations.append(_duration(image))
    return durations


def _webp_durations(file: IO[bytes]) -> list[float]:
    """Seconds of each frame, from the headers of the ANMF chunks of a WebP container."""
    durations = []
    file.seek(12)
    while len(header := file.read(8)) == 8:
        size = int.from_bytes(header[4:], "little")
        after = file.tell() + size + size % 2  # chunks are padded to an even length
        if header[:4] == b"ANMF":
            # Place and size take 12 bytes, the milliseconds 3.
            milliseconds = int.from_bytes(file.read(15)[12:], "little")
            durations.append(milliseconds / 1000 or _UNSTATED)
        file.seek(after)
    return durations


def _upright_size(image: Image.Image) -> tuple[int, int]:
    # Exif orientations from 5 on lie on their side.
    turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """RGB as displayed, over black where the image is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # Sixteen bits of grey, which Pillow would clip at 255.
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        return over_black(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))
