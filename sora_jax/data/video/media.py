"""What is known about a video or image file before it is decoded, and what is wrong with it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from typing import IO

from etils import epath

from sora_jax.data.video.timing import Rate, frames_at_rate
from sora_jax.files import is_remote

Media = str | os.PathLike[str] | bytes
"""A path, local or gs://, or the bytes of a file."""


class VideoError(Exception):
    """A file that cannot be read or written. `str()` names the file and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """What a file holds: its size as displayed (upright, square pixels), how many frames, how fast.

    frames    as many as are shown at the rate `fps`: of an animation whose last one is held, that
              one counts as often as it is.
    fps       frames per second, the average if `variable`; 0 for a still image.
    seconds   from the first frame to the end of the last; 0 for a still image.
    variable  whether the frames come at unequal intervals. Such a file is read at the constant rate
              `fps`, each frame the one that is shown at that time.
    start     when the first frame appears by the file's own clock, in seconds.
    rotation  degrees counter-clockwise, a multiple of 90, that turn the stored picture upright.
    counted   whether the file's timestamps are missing or out of order, so that frames are found by
              counting from the beginning.
    bits      of each colour, as stored. They are read as 8.
    clear     whether the first frame is transparent somewhere. It is read as over black.
    """

    frames: int
    height: int
    width: int
    fps: Rate = 0.0
    seconds: float = 0.0
    variable: bool = False
    start: float = 0.0
    rotation: int = 0
    counted: bool = False
    bits: int = 8
    clear: bool = False

    def frames_at(self, fps: Rate | None) -> int:
        """The number of frames read at `fps` frames per second (None: the file's own rate)."""
        return self.frames if fps is None else frames_at_rate(self.frames, self.fps, fps=fps)

    def times(
        self, start: int, count: int | None = None, *, fps: Rate | None = None
    ) -> list[float]:
        """The seconds of frames `start` to `start + count` (None: to the end) at the rate `fps`."""
        available = self.frames_at(fps)
        end = available if count is None else min(available, start + count)
        return [index / (fps or self.fps or 1.0) for index in range(start, end)]


def named(media: Media) -> str:
    """How an error names a file."""
    return f"<{len(media)} bytes>" if isinstance(media, bytes) else os.fspath(media)


def is_local(media: Media) -> bool:
    """Whether the file can be opened by the operating system."""
    return not isinstance(media, bytes) and not is_remote(media)


@contextlib.contextmanager
def opened(media: Media) -> Iterator[IO[bytes]]:
    """The file, for reading bytes."""
    if isinstance(media, bytes):
        yield io.BytesIO(media)
    else:
        with epath.Path(media).open("rb") as file:
            yield file


@contextlib.contextmanager
def named_errors(media: Media) -> Iterator[None]:
    """Turns whatever a decoder raises on a damaged file into a `VideoError` with the media's name.

    Decoders of damaged bytes raise all kinds of things (Pillow: SyntaxError, struct.error, OSError;
    FFmpeg: errors of its own, IndexError through PyAV), so all of them are caught.
    """
    try:
        yield
    except VideoError as error:
        if error.path == named(media):
            raise
        raise VideoError(named(media), error.reason) from error
    except Exception as error:
        raise VideoError(named(media), _reason(error)) from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    absent = isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError)
    return text if absent else f"damaged or unreadable ({text})"
