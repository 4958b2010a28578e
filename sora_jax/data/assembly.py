"""What a batch is put together from: rows of pixels or latents, with captions.

A row whose file cannot be read stays empty and is named; what storage fails to give is asked for
again.
"""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy import ndarray

from sora_jax.arrays import ALL_ROWS, Batch, Share, Size, Text
from sora_jax.data.buckets import Bucket
from sora_jax.data.plan import Plan, PlannedRow
from sora_jax.data.video import VideoError

_PAUSES = (1.0, 4.0)
"""Seconds before a row is read again whose storage failed."""

_LASTING = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR)


class Loaded(NamedTuple):
    """One step's batch: this host's rows of it, as NumPy arrays.

    `bucket` is its frames x height x width; `failed` the name and reason of each clip that could
    not be read, whose row is empty.
    """

    bucket: str
    batch: Batch
    failed: Mapping[str, str]


@runtime_checkable
class Tokenizer(Protocol):
    """Turns texts into what a text encoder reads."""

    def tokens(self, texts: Sequence[str]) -> Text: ...

    def truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts lose their end."""
        ...


class Row(NamedTuple):
    """What one row of a batch holds: the size that is valid, in pixels, and its caption.

    `spanned` are the latent frames that are given by themselves, `spans` the latents of those.
    """

    size: Size
    caption: str
    spanned: ndarray | None = None
    spans: ndarray | None = None


@runtime_checkable
class Content(Protocol):
    """What rows are made of: pixels or latents. `field` is the field of Batch that it fills."""

    @property
    def field(self) -> str: ...

    def name(self, row: PlannedRow) -> str:
        """The clip that a row is of."""
        ...

    def blank(self, bucket: Bucket, rows: int) -> ndarray:
        """Zeros for so many rows."""
        ...

    def blank_spans(self, bucket: Bucket, rows: int) -> dict[str, ndarray]:
        """Zeros for `Batch.spanned` and `Batch.spans` of so many rows, as far as there are any."""
        ...

    def misfit(self, objective: Any) -> str | None:
        """Why an objective cannot be trained on these rows, if it cannot."""
        ...

    def fill(self, into: ndarray, row: PlannedRow, bucket: Bucket, rng: np.random.Generator) -> Row:
        """Writes one row into its zeroed part of a blank. VideoError if it cannot."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """Makes one host's part of a step. Picklable, and the same in every process."""

    plan: Plan
    content: Content
    tokenizer: Tokenizer
    share: Share = ALL_ROWS

    def __call__(self, step: int) -> dict[str, Any]:
        """The fields of a `Loaded`, and those of its batch, as plain arrays and strings."""
        planned = self.plan.step(step)
        rows = planned.rows_of(self.share)
        values = self.content.blank(planned.bucket, len(rows))
        extent = np.zeros((len(rows), 3), np.int32)
        captions = [""] * len(rows)
        failed: dict[str, str] = {}
        spanned = self.content.blank_spans(planned.bucket, len(rows))
        for index, row in enumerate(rows):
            if row is None:
                continue
            try:
                made = self._filled(values[index], row, planned.bucket)
            except (VideoError, OSError) as error:
                # Perhaps of this process alone: the others' copies of the row would differ.
                if self.share.copied and (_storage(error) or self.content.field == "latent"):
                    raise
                # The file broke after it was scanned. Its row stays empty and the run goes on.
                values[index] = 0
                failed[self.content.name(row)] = str(getattr(error, "reason", error))
            else:
                extent[index], captions[index] = made.size, made.caption
                for name, into in spanned.items():
                    _lay(getattr(made, name), into[index])
        try:
            text = self.tokenizer.tokens(captions)
        except ValueError as error:
            names = {self.content.name(row) for row in rows if row is not None}
            raise ValueError(f"a caption of one of {', '.join(sorted(names))}: {error}") from error
        return {
            "bucket": str(planned.bucket.size),
            "failed": failed,
            self.content.field: values,
            "extent": extent,
            "tokens": text.tokens,
            "length": text.length,
            **spanned,
        }

    def _filled(self, into: ndarray, row: PlannedRow, bucket: Bucket) -> Row:
        """Fills a row, and tries again where the storage fails, as it may for a moment."""
        for pause in _PAUSES:
            try:
                return self.content.fill(into, row, bucket, self.plan.rng(row))
            except (VideoError, OSError) as error:
                if _storage(error) in (None, *_LASTING):
                    raise
            time.sleep(pause)
            into[...] = 0
        return self.content.fill(into, row, bucket, self.plan.rng(row))


def _storage(error: BaseException | None) -> int | None:
    """The number of the operating system's error behind another, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__
    return None


def _lay(values: ndarray | None, into: ndarray) -> None:
    """Copies values to the beginning of each axis."""
    if values is not None:
        into[tuple(slice(length) for length in values.shape)] = values


def as_loaded(fields: Mapping[str, Any]) -> Loaded:
    """Puts together what an `Assembly` gives."""
    batch = Batch(
        video=fields.get("video"),
        latent=fields.get("latent"),
        extent=fields["extent"],
        text=Text(tokens=fields["tokens"], length=fields["length"]),
        weight=(fields["extent"][:, 0] > 0).astype(np.float32),
        spanned=fields.get("spanned"),
        spans=fields.get("spans"),
    )
    return Loaded(bucket=fields["bucket"], batch=batch, failed=fields["failed"])
