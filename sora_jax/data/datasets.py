"""What a source of clips is: a manifest that can be planned with, and frames read on demand.

A source is a frozen value (paths and numbers), so that it can stand in an experiment, be written
as JSON and be compared. `source.open()` scans it once and returns an opened source, which is
picklable and carries the whole manifest: the worker processes of a loader need not scan again.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import UInt8
from numpy import ndarray

from sora_jax.data.video import Rate, frames_at_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """One description of a clip: a short one, or one that describes in detail."""

    text: str
    kind: Literal["short", "descriptive"] = "short"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One usable clip of a source.

    name      unique in its source: for files the path below the source's root.
    frames    at the native rate `fps`.
    height, width   as displayed, in pixels: rotated upright, with square pixels.
    fps       frames per second; 0 for a still image. A file of variable frame rate is read at its
              average rate.
    captions  none for a clip without caption.
    """

    name: str
    frames: int
    height: int
    width: int
    fps: Rate
    captions: tuple[Caption, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the clip lasts; 0 for a still image."""
        return self.frames / self.fps if self.fps else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken:
    """A file (or a caption file, or a line of one) that cannot be used, and why."""

    name: str
    reason: str


@runtime_checkable
class OpenedSource(Protocol):
    """A scanned source. Records come in the same order on every host."""

    @property
    def records(self) -> tuple[Record, ...]: ...

    @property
    def broken(self) -> tuple[Broken, ...]: ...

    def read(
        self, index: int, start: int, count: int, *, fps: Rate | None = None
    ) -> UInt8[ndarray, "frames height width 3"]:
        """Up to `count` frames of record `index` from frame `start` on, as displayed.

        `start` and `count` are in frames of the rate `fps` (the record's own rate if None). Fewer
        frames than asked come back where the clip ends. Raises `VideoError` if it cannot be read.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """A frozen value that names where clips are."""

    def open(self) -> OpenedSource: ...


def frames_at(record: Record, fps: Rate | None) -> int:
    """The number of frames of a record read at `fps` frames per second (None: its own rate)."""
    return record.frames if fps is None else frames_at_rate(record.frames, record.fps, fps=fps)
