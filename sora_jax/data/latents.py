"""Clips as latents that were encoded before: the data of a diffusion model.

The plan and the loader are those of pixels (plan.py, loader.py); what a row is made of differs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath
from numpy import ndarray

from sora_jax.data.assembly import Row, Tokenizer
from sora_jax.data.buckets import Bucket, Grid, batch_of
from sora_jax.data.captions import Bytes, choose
from sora_jax.data.datasets import Record
from sora_jax.data.loader import Opened
from sora_jax.data.plan import Plan, PlannedRow
from sora_jax.data.shards import LatentRecord, LatentWriter, Shards, read_shards
from sora_jax.data.video import VideoError
from sora_jax.data.windows import Windows

__all__ = ["LatentClips", "LatentRecord", "LatentWriter", "Latents"]

AUTOENCODER = "autoencoder"
"""The folder of the autoencoder below that of its latents."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latents:
    """Rows read from shards; `names` are those of the clips that the windows were cut from."""

    paths: tuple[str, ...]
    names: tuple[str, ...]
    channels: int
    grid: Grid
    descriptive_share: float
    misspelt_share: float
    spans: bool

    field = "latent"

    def name(self, row: PlannedRow) -> str:
        return self.names[row.record]

    def misfit(self, objective: Any) -> str | None:
        if not hasattr(objective, "factor"):
            return f"{type(objective).__name__} learns from pixels, and data holds latents"
        pairs = {
            "objective.factor": (objective.factor, self.grid.factor),
            "objective.channels": (objective.channels, self.channels),
        }
        for name, (wanted, there) in pairs.items():
            if wanted != there:
                return f"{name} is {wanted} and the latents have {there}; make it {there}"
        return None

    def blank(self, bucket: Bucket, rows: int) -> ndarray:
        return np.zeros((rows, *self.grid.latent(bucket.size), self.channels), np.float32)

    def blank_spans(self, bucket: Bucket, rows: int) -> dict[str, ndarray]:
        if not self.spans:
            return {}
        frames = self.grid.latent(bucket.size).frames
        return {"spanned": np.zeros((rows, frames), bool), "spans": self.blank(bucket, rows)}

    def read(self, index: int) -> LatentRecord:
        """Window `index` in the order of the shards. Raises VideoError if its record is damaged."""
        try:
            return LatentRecord.unpack(self._source[index])
        except (RuntimeError, ValueError) as error:
            raise VideoError(self.names[index], f"its latents are damaged: {error}") from error

    def fill(self, into: ndarray, row: PlannedRow, bucket: Bucket, rng: np.random.Generator) -> Row:
        found = self.read(row.record)
        frames, height, width = found.latent.shape[:3]
        into[:frames, :height, :width] = found.latent
        record = Record(name=found.name, fps=0.0, captions=found.captions, **found.size._asdict())
        caption = choose(
            record,
            rng,
            descriptive_share=self.descriptive_share,
            misspelt_share=self.misspelt_share,
        )
        if not self.spans:
            return Row(found.size, caption)
        spans = np.zeros_like(found.latent)
        spans[found.spanned] = found.spans
        return Row(found.size, caption, found.spanned, spans)

    @functools.cached_property
    def _source(self) -> ArrayRecordDataSource:
        return ArrayRecordDataSource(list(self.paths))

    def __getstate__(self) -> dict[str, object]:
        # Open files stay in the process that opened them.
        return {name: value for name, value in self.__dict__.items() if name != "_source"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentClips:
    """The latents in the folder `path`, in the buckets that they were encoded in.

    tokens    budget of a step; None keeps the batches of the encoding.
    multiple  batches are multiples of it.
    misspelt_share  of the captions get typing errors, anew each time, as prompts have them.

    The other fields are those of `Clips`.
    """

    path: str
    tokens: int | None = None
    multiple: int = 1
    tokenizer: Tokenizer = Bytes()
    descriptive_share: float = 0.5
    misspelt_share: float = 0.0
    image_share: float | None = None
    seed: int = 0
    workers: int = 1
    prefetch: int = 4

    def open(self) -> Opened:
        """Reads the manifest and plans. Raises PlanError if there are no finished latents."""
        shards = read_shards(self.path)
        plan = Plan(
            windows=_windows(shards),
            buckets=self._buckets(shards),
            seed=self.seed,
            image_share=self.image_share,
        )
        content = Latents(
            paths=shards.paths,
            names=tuple(row[0] for row in shards.rows),
            channels=shards.rows[0][-1],
            grid=shards.grid,
            descriptive_share=self.descriptive_share,
            misspelt_share=self.misspelt_share,
            spans=shards.spans,
        )
        return Opened(
            manifest=shards.digest,
            fps=shards.fps,
            plan=plan,
            content=content,
            tokenizer=self.tokenizer,
            workers=self.workers,
            prefetch=self.prefetch,
            artifacts={AUTOENCODER: str(epath.Path(self.path).expanduser() / AUTOENCODER)},
        )

    def _buckets(self, shards: Shards) -> tuple[Bucket, ...]:
        if self.tokens is None:
            return shards.buckets
        return tuple(
            dataclasses.replace(
                bucket,
                batch=batch_of(bucket.size, self.tokens, grid=shards.grid, multiple=self.multiple),
            )
            for bucket in shards.buckets
        )


def _windows(shards: Shards) -> Windows:
    """Each record of the shards is one window that is used whole."""
    places = {str(bucket.size): index for index, bucket in enumerate(shards.buckets)}
    columns = np.asarray([(places[row[1]], *row[2:5]) for row in shards.rows], int)
    bucket, frames, height, width = columns.T
    nothing = np.zeros(len(columns), int)
    return Windows(
        record=np.arange(len(columns)),
        start=nothing,
        frames=frames,
        height=height,
        width=width,
        bucket=bucket,
        dropped=nothing,
    )
