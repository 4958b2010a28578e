"""A manifest cut into windows, in columns: what a plan is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from sora_jax.arrays import Size
from sora_jax.data.buckets import GRID, Assignment, Bucket, Grid, assign
from sora_jax.data.datasets import Record, frames_at
from sora_jax.data.framing import PAD, Framing

COLUMNS = ("start", "frames", "height", "width", "bucket")
"""The fields of a window."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """All windows of a manifest as columns, in the manifest's order; `dropped` is by record."""

    record: Int[ndarray, "windows"]
    start: Int[ndarray, "windows"]
    frames: Int[ndarray, "windows"]
    height: Int[ndarray, "windows"]
    width: Int[ndarray, "windows"]
    bucket: Int[ndarray, "windows"]
    dropped: Int[ndarray, "records"]

    def __len__(self) -> int:
        return len(self.record)

    def columns(self) -> Int[ndarray, "windows 6"]:
        """The columns side by side."""
        return np.stack([getattr(self, name) for name in ("record", *COLUMNS)], axis=1)


def windows_of(
    records: Sequence[Record],
    buckets: Sequence[Bucket],
    *,
    fps: float | None = None,
    policy: Framing = PAD,
    grid: Grid = GRID,
) -> Windows:
    """The windows that each record is cut into, in the bucket where it loses least."""
    clips = [Size(frames_at(record, fps), record.height, record.width) for record in records]
    # Most clips of a large manifest share their size with others.
    found = {clip: assign(clip, buckets, policy=policy, grid=grid) for clip in dict.fromkeys(clips)}
    rows = {clip: _rows(assignment) for clip, assignment in found.items()}
    columns = np.concatenate([rows[clip] for clip in clips] or [np.zeros((0, len(COLUMNS)), int)])
    return Windows(
        record=np.repeat(np.arange(len(clips)), [len(rows[clip]) for clip in clips]),
        **dict(zip(COLUMNS, columns.T, strict=True)),
        dropped=np.asarray([found[clip].dropped for clip in clips], int),
    )


def _rows(assignment: Assignment) -> ndarray:
    windows = [[getattr(window, name) for name in COLUMNS] for window in assignment.windows]
    return np.asarray(windows, int)


def digest(records: Sequence[Record]) -> str:
    """Changes with anything that is known about the records, captions included."""
    found = hashlib.sha256()
    for r in records:
        captions = [(caption.kind, caption.text) for caption in r.captions]
        line = (r.name, r.frames, r.height, r.width, r.fps, captions)
        found.update(json.dumps(line).encode())
    return found.hexdigest()
