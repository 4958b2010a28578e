"""Which rows make step n: a pure function of (manifest, buckets, seed, epoch).

It is the same on every host and needs no state.

Each step takes the rows of one bucket, on all hosts together. A pass (epoch) over a bucket is a
random order of its windows cut into batches, the last one filled with empty rows; a pass over the
data is a random order of all those batches, so that each window comes exactly once a pass.

With `image_share` = p, stills (buckets of one frame) and videos have passes of their own: of the
first n steps exactly floor(n p) are of stills, evenly spread, and the k-th pass over either is the
k-th time that each of its windows has come exactly once. Without it both share one pass.

Random numbers come from Philox, keyed by what they are for, so that nothing has to be stepped or
kept to know any step of any epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from sora_jax.arrays import Share, Size
from sora_jax.data.buckets import Bucket
from sora_jax.data.windows import Windows

# What a random stream is for; part of its key. Changing one changes every plan.
ORDER_OF_BATCHES, ORDER_OF_WINDOWS, ROW = range(3)


class PlanError(ValueError):
    """Nothing to train on, or not to be cut as asked; the message says what to change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """One window in one pass. `window` counts in the plan's windows, `record` in the manifest."""

    window: int
    epoch: int
    record: int
    start: int
    frames: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        return Size(self.frames, self.height, self.width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """One step: a bucket and as many rows as its batch has, None where a row is to be empty."""

    step: int
    bucket: Bucket
    rows: tuple[PlannedRow | None, ...]

    def rows_of(self, share: Share) -> tuple[PlannedRow | None, ...]:
        """The rows of a share. Raises PlanError if its parts cannot be equal."""
        if self.bucket.batch % share.of:
            raise PlanError(_uneven(self.bucket, share.of))
        return tuple(self.rows[row] for part in share.rows(self.bucket.batch) for row in part)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Stream:
    """Buckets that share their passes, with the number of batches of each in one pass."""

    tag: int
    buckets: tuple[int, ...]
    batches: tuple[int, ...]

    @property
    def steps(self) -> int:
        return sum(self.batches)

    def at(self, index: int, seed: int) -> tuple[int, int, int]:
        """The pass, the bucket and the number of the batch in it, of the stream's step `index`."""
        epoch, place = divmod(index, self.steps)
        slot = int(shuffled(self.steps, (seed, epoch, ORDER_OF_BATCHES, self.tag))[place])
        ends = np.cumsum(self.batches)
        which = int(np.searchsorted(ends, slot, side="right"))
        return epoch, self.buckets[which], slot - int(ends[which]) + self.batches[which]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The batches of a run. Raises PlanError if there are no windows, or none for `image_share`."""

    windows: Windows
    buckets: tuple[Bucket, ...]
    seed: int = 0
    image_share: float | None = None

    def __post_init__(self) -> None:
        if not len(self.windows):
            raise PlanError("no clip is usable, so there is nothing to train on")
        if self.seed < 0:
            raise PlanError(f"seed is {self.seed}; it must not be negative")
        if self.image_share is None:
            return
        if not 0 < self.image_share < 1:
            raise PlanError(
                f"image_share is {self.image_share}; it must lie between 0 and 1, or be None to "
                "take stills as often as they come"
            )
        for name, stream in (("still image", self._images), ("video", self._videos)):
            if not stream.steps:
                raise PlanError(
                    f"image_share is {self.image_share} but no clip is a {name}; set it to None"
                )

    @functools.cached_property
    def members(self) -> tuple[ndarray, ...]:
        """For each bucket its windows."""
        order = np.argsort(self.windows.bucket, kind="stable")
        ends = np.searchsorted(self.windows.bucket[order], np.arange(1, len(self.buckets)))
        return tuple(np.split(order, ends))

    @property
    def used(self) -> tuple[Bucket, ...]:
        """The buckets that have windows."""
        return tuple(b for b, m in zip(self.buckets, self.members, strict=True) if len(m))

    @functools.cached_property
    def epoch_steps(self) -> int:
        """Steps until every window has come at least once; of videos, with an `image_share`."""
        if self.image_share is None:
            return self._all.steps
        steps = math.floor(self._videos.steps / (1 - self.image_share))
        while steps - self._images_before(steps) < self._videos.steps:
            steps += 1
        return steps

    def batches(self, bucket: int) -> int:
        """Steps that the windows of a bucket fill in one pass."""
        return math.ceil(len(self.members[bucket]) / self.buckets[bucket].batch)

    def step(self, number: int) -> PlannedBatch:
        """The batch of step `number` (0, 1, ... without end)."""
        stream, index = self._stream_at(number)
        epoch, bucket, part = stream.at(index, self.seed)
        box, members = self.buckets[bucket], self.members[bucket]
        order = shuffled(len(members), (self.seed, epoch, ORDER_OF_WINDOWS, bucket))
        chosen = members[order[part * box.batch : (part + 1) * box.batch]]
        rows = [self._row(int(window), epoch) for window in chosen]
        empty = [None] * (box.batch - len(rows))
        return PlannedBatch(step=number, bucket=box, rows=(*rows, *empty))

    def check_parts(self, parts: int) -> None:
        """Raises PlanError if a bucket's batch cannot be cut into so many equal parts."""
        for bucket in self.used:
            if bucket.batch % parts:
                raise PlanError(_uneven(bucket, parts))

    def rng(self, row: PlannedRow) -> np.random.Generator:
        """Random numbers for one window in one pass: its caption, its crop."""
        return np.random.Generator(philox((self.seed, row.epoch, ROW, row.window)))

    def fingerprint(self, manifest: str) -> str:
        """Changes with the `manifest` (see `digest`), the windows, the buckets, seed and share."""
        boxes = [dataclasses.astuple(bucket) for bucket in self.buckets]
        text = json.dumps([manifest, boxes, self.seed, self.image_share])
        columns = np.ascontiguousarray(self.windows.columns(), "<i8").tobytes()
        return hashlib.sha256(text.encode() + columns).hexdigest()[:32]

    def _row(self, window: int, epoch: int) -> PlannedRow:
        names = ("record", "start", "frames", "height", "width")
        fields = {name: int(getattr(self.windows, name)[window]) for name in names}
        return PlannedRow(window=window, epoch=epoch, **fields)

    def _stream_at(self, number: int) -> tuple[_Stream, int]:
        if self.image_share is None:
            return self._all, number
        before = self._images_before(number)
        if self._images_before(number + 1) > before:
            return self._images, before
        return self._videos, number - before

    def _images_before(self, number: int) -> int:
        return math.floor(number * self.image_share) if self.image_share else 0

    def _stream(self, tag: int, chosen: Sequence[int]) -> _Stream:
        batches = tuple(self.batches(bucket) for bucket in chosen)
        return _Stream(tag=tag, buckets=tuple(chosen), batches=batches)

    @functools.cached_property
    def _all(self) -> _Stream:
        return self._stream(0, range(len(self.buckets)))

    @functools.cached_property
    def _videos(self) -> _Stream:
        return self._stream(1, [i for i, b in enumerate(self.buckets) if b.frames > 1])

    @functools.cached_property
    def _images(self) -> _Stream:
        return self._stream(2, [i for i, b in enumerate(self.buckets) if b.frames == 1])


def philox(key: tuple[int, ...]) -> np.random.Philox:
    """The random stream of a key of non-negative integers."""
    return np.random.Philox(np.random.SeedSequence(key))


# Kept for a few epochs of a few buckets, so that a step costs no sorting.
@functools.lru_cache(maxsize=64)
def shuffled(count: int, key: tuple[int, ...]) -> ndarray:
    """0..count-1 in an order that depends on nothing but the arguments.

    Sorted by raw bits rather than by `Generator.permutation`: NumPy promises to keep the first
    across versions, and not the second.
    """
    return np.argsort(philox(key).random_raw(count), kind="stable")


def _uneven(bucket: Bucket, parts: int) -> str:
    more = math.ceil(bucket.batch / parts) * parts
    return (
        f"bucket {bucket} cannot be cut into {parts} equal parts, one for each process or group of "
        f"devices; make its batch a multiple of {parts}, such as {more}"
    )
