"""Clips of a source in buckets: decoded, framed, resized, padded. The data of an experiment."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from sora_jax.arrays import ALL_ROWS, Share, Size
from sora_jax.data.assembly import Row, Tokenizer
from sora_jax.data.buckets import GRID, Bucket, Grid
from sora_jax.data.captions import Bytes, choose
from sora_jax.data.datasets import OpenedSource, Record, Source
from sora_jax.data.framing import Framing, Pad, fitted, place, resized
from sora_jax.data.latents import LatentWriter
from sora_jax.data.loader import Opened
from sora_jax.data.plan import Plan, PlanError, PlannedRow
from sora_jax.data.spans import Spans
from sora_jax.data.suggest import Suggested
from sora_jax.data.video import VideoError
from sora_jax.data.windows import Windows, digest, windows_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """Rows read from a source, framed, resized and padded."""

    source: OpenedSource
    policy: Framing
    grid: Grid
    fps: float | None
    descriptive_share: float
    keep_megabytes: int
    spans: Spans | None

    field = "video"

    def name(self, row: PlannedRow) -> str:
        return self.source.records[row.record].name

    def misfit(self, objective: Any) -> str | None:
        factor = objective.vae.factor if hasattr(objective, "vae") else None
        if factor is None:
            return f"{type(objective).__name__} learns from latents, and data holds pixels"
        if factor != self.grid.factor:
            return (
                f"objective.vae makes one latent of {factor} pixels and data.grid.factor is "
                f"{self.grid.factor}; make them equal"
            )
        return None

    def blank(self, bucket: Bucket, rows: int) -> ndarray:
        return np.zeros((rows, *bucket.size, 3), np.uint8)

    def blank_spans(self, bucket: Bucket, rows: int) -> dict[str, ndarray]:
        if self.spans is None:
            return {}
        return {"spanned": np.zeros((rows, self.grid.latent(bucket.size).frames), bool)}

    def fill(self, into: ndarray, row: PlannedRow, bucket: Bucket, rng: np.random.Generator) -> Row:
        record = self.source.records[row.record]
        caption = choose(record, rng, descriptive_share=self.descriptive_share)
        frames = self._memory.held.get(row.window)
        if frames is None:
            frames = self._read(row, bucket, rng)
            self._memory.keep(row.window, frames)
        place(frames, into, factor=self.grid.factor)
        size = Size(*frames.shape[:3])
        if self.spans is None:
            return Row(size, caption)
        return Row(size, caption, self.spans.draw(rng, self.grid.latent(size).frames))

    def _read(self, row: PlannedRow, bucket: Bucket, rng: np.random.Generator) -> ndarray:
        """The frames of a row, framed and resized."""
        frames = self.source.read(row.record, row.start, row.frames, fps=self.fps)
        if not len(frames):
            raise VideoError(self.name(row), f"it has no frame {row.start}")
        # A file may hold fewer frames, or other sizes, than it said when it was scanned.
        frames = frames[: self.grid.whole(len(frames))]
        height, width = frames.shape[1:3]
        region = self.policy.region(height, width)
        size = fitted(*region, box=bucket.size, enlarge=self.policy.enlarge)
        corner = self.policy.corner(height, width, rng)
        return resized(frames, *size, corner=corner, region=region)

    @functools.cached_property
    def _memory(self) -> _Memory:
        return _Memory(0 if self.policy.varies else self.keep_megabytes << 20)

    def __getstate__(self) -> dict[str, object]:
        # What this process has read stays here.
        return {name: value for name, value in self.__dict__.items() if name != "_memory"}


class _Memory:
    """Frames by window, as long as there is room.

    Nothing is given up for something newer: in a shuffled pass every window is as likely to come
    next as any other.
    """

    def __init__(self, room: int) -> None:
        self.room, self.held = room, dict[int, ndarray]()

    def keep(self, window: int, frames: ndarray) -> None:
        if frames.nbytes <= self.room:
            self.room -= frames.nbytes
            self.held[window] = frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedClips(Opened):
    """Planned clips of a source; `records` are its usable clips."""

    records: tuple[Record, ...]
    grid: Grid
    spans: bool

    def sink(self, path: str, *, encoder: str = "", share: Share = ALL_ROWS) -> LatentWriter:
        """What writes the latents of a share of these clips into the folder `path`.

        `encoder` identifies the weights that encode: those of others are not gone on with.
        """
        return LatentWriter(
            path=path,
            plan=self.plan,
            records=self.records,
            grid=self.grid,
            fps=self.fps,
            fingerprint=f"{self.fingerprint} {encoder}",
            spans=self.spans,
            share=share,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of a source in buckets: the data of an experiment.

    source             where they are.
    buckets            the boxes, or how to derive them from the clips.
    policy             pad (nothing is cropped) or crop.
    tokenizer          what turns captions into integers.
    descriptive_share  how often a descriptive caption is taken where there is a short one too.
    image_share        share of the steps that hold stills; None takes them as often as they come.
    fps                frames per second that every clip is read at; None reads each at its own.
    grid               the pixels of a latent, and the latents of a token.
    keep_megabytes     decoded clips that each worker keeps in memory, so that small data is decoded
                       once and not once a pass.
    spans              draws frames to be encoded by themselves besides, for training with frames
                       given that are not the first (`sora-jax encode` and the Encode stage).
    workers            processes that read ahead; 0 reads in threads of this process.
    prefetch           steps to hold ready.
    """

    source: Source
    buckets: tuple[Bucket, ...] | Suggested
    policy: Framing = Pad()
    tokenizer: Tokenizer = Bytes()
    descriptive_share: float = 0.5
    image_share: float | None = None
    fps: float | None = None
    grid: Grid = GRID
    seed: int = 0
    keep_megabytes: int = 512
    workers: int = 1
    prefetch: int = 4
    spans: Spans | None = None

    def __post_init__(self) -> None:
        if isinstance(self.buckets, tuple):
            check_buckets(self.buckets, self.grid)

    def once(self) -> Clips:
        """The same clips, where one pass of `epoch_steps` holds stills and videos exactly once."""
        return dataclasses.replace(self, image_share=None)

    def lay_out(self, opened: OpenedSource) -> tuple[tuple[Bucket, ...], Windows]:
        """The buckets, and the windows of each record in them; both empty if there is no record."""
        boxes = self.buckets
        if isinstance(boxes, Suggested):
            boxes = boxes.suit(opened.records, fps=self.fps, policy=self.policy, grid=self.grid)
        windows = windows_of(
            opened.records, boxes, fps=self.fps, policy=self.policy, grid=self.grid
        )
        return boxes, windows

    def open(self) -> OpenedClips:
        """Scans the source and plans. Raises PlanError if nothing can be trained on."""
        opened = self.source.open()
        if not opened.records:
            raise PlanError(_nothing(self.source, opened))
        boxes, windows = self.lay_out(opened)
        plan = Plan(windows=windows, buckets=boxes, seed=self.seed, image_share=self.image_share)
        content = Pixels(
            source=opened,
            policy=self.policy,
            grid=self.grid,
            fps=self.fps,
            descriptive_share=self.descriptive_share,
            keep_megabytes=self.keep_megabytes,
            spans=self.spans,
        )
        return OpenedClips(
            records=opened.records,
            grid=self.grid,
            spans=self.spans is not None,
            manifest=digest(opened.records),
            fps=self.fps or _median_fps(opened.records),
            plan=plan,
            content=content,
            tokenizer=self.tokenizer,
            workers=self.workers,
            prefetch=self.prefetch,
            artifacts={},
        )


def _median_fps(records: Sequence[Record]) -> float:
    rates = [record.fps for record in records if record.fps]
    return float(np.median(rates)) if rates else 0.0


def check_buckets(buckets: Sequence[Bucket], grid: Grid) -> None:
    """Raises ValueError if there are none, if one does not fit the grid, or if two are alike."""
    if not buckets:
        raise ValueError("buckets is empty; give at least one, or Suggested(tokens=...)")
    for bucket in buckets:
        grid.check(bucket)
    sizes = [bucket.size for bucket in buckets]
    for size in sizes:
        if sizes.count(size) > 1:
            raise ValueError(f"there are two buckets of {size}; keep one")


def _nothing(source: Source, opened: OpenedSource) -> str:
    lines = [f"{source} has no usable clip, so there is nothing to train on."]
    lines += [f"  {broken.name}: {broken.reason}" for broken in opened.broken[:3]]
    if len(opened.broken) > 3:
        lines.append(f"  and {len(opened.broken) - 3} more that cannot be read")
    lines.append(
        "Give a source with at least one readable video or image; `sora-jax describe` lists"
    )
    lines.append("every file and what is wrong with it.")
    return "\n".join(lines)
