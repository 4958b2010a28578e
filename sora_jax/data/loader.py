"""From a plan to batches: put rows together, in worker processes, with a position.

The position is the number of the next step and nothing else: a loader started there, on however
many hosts, gives the batches that an unbroken one would have given.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain.python as grain
import numpy as np
from absl import flags
from numpy import ndarray

from sora_jax.arrays import ALL_ROWS, Batch, Share, Size, Text
from sora_jax.data.buckets import Bucket
from sora_jax.data.plan import Plan, PlanError, PlannedRow
from sora_jax.data.video import VideoError

_PAUSES = (1.0, 4.0)
"""Seconds before a row is read again whose storage failed."""

_LASTING = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR)

_NOTICE = 60
"""Seconds for which a worker goes on after SIGTERM."""

# More steps than any run takes: the data has no end.
ENDLESS = 2**48


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


class Loader(Iterator[Loaded]):
    """Batches from step `start` on, without end.

    `workers` processes each make every workers-th step (0: threads of this process instead), and
    hold about `prefetch` steps ready in all. `close()`, or the end of a `with`, ends them.
    """

    def __init__(self, assembly: Assembly, *, start: int = 0, workers: int = 0, prefetch: int = 4):
        self._step = start
        threads = 0 if workers else min(2, prefetch)
        ahead = 0 if workers else prefetch
        steps: Any = grain.MapDataset.range(start, ENDLESS).map(assembly)
        steps = steps.to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        )
        if workers:
            # Starting processes, grain reads command-line flags of absl, which no one has parsed.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(
                num_workers=workers, per_worker_buffer_size=max(1, math.ceil(prefetch / workers))
            )
            steps = steps.mp_prefetch(options, worker_init_fn=_prepare_worker)
        self._running = [iter(steps)]
        # Workers end with the loader, at the latest when the interpreter does.
        self._ended = weakref.finalize(self, _end, self._running)

    def __next__(self) -> Loaded:
        if not self._running:
            raise StopIteration
        fields = next(self._running[0])
        self._step += 1
        return as_loaded(fields)

    def state(self) -> dict[str, int]:
        """The position, for JSON: `loader(start=state["step"])` goes on from here."""
        return {"step": self._step}

    def close(self) -> None:
        """Ends the worker processes; there are no further batches."""
        self._ended()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(running: list[Any]) -> None:
    while running:
        running.pop().close()


def _prepare_worker(worker: int, workers: int) -> None:
    # A worker imports jax for the names in arrays.py; it must never take the chip from the trainer.
    os.environ["JAX_PLATFORMS"] = "cpu"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Where a machine is taken away every process of it gets the signal. The trainer saves its step,
    # for which it may need another batch or two, and ends its workers itself.
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    del number, frame
    # Which ends the process, as nothing listens to it; a thread could not be begun at its end.
    signal.alarm(_NOTICE)


def _end_with_parent() -> None:
    # A trainer that is killed cannot end its workers, which would wait for it for ever.
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """Planned data, of pixels or of latents.

    manifest   digest of what the plan was made from.
    fps        frames per second of the clips, the median where they differ; 0 for stills alone.
    artifacts  folders of frozen models that a model trained on this data depends on, by name.
    """

    manifest: str
    fps: float
    plan: Plan
    content: Content
    tokenizer: Tokenizer
    workers: int
    prefetch: int
    artifacts: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Changes when the plan of batches does."""
        return self.plan.fingerprint(self.manifest)

    def check(self, objective: Any) -> None:
        """Raises PlanError, naming the fields, if `objective` does not suit these rows."""
        if reason := self.content.misfit(objective) or self._text_misfit(objective):
            raise PlanError(reason)

    def _text_misfit(self, objective: Any) -> str | None:
        """Why the text encoder of an objective, if it has one, cannot read the tokens."""
        encoder = getattr(objective, "text", None)
        here, there = (getattr(each, "classes", None) for each in (self.tokenizer, encoder))
        if encoder is not None and here != there:
            return (
                f"data.tokenizer has {here if here is not None else 'no'} classes and "
                f"objective.text {there if there is not None else 'none'}; make them equal"
            )
        length = self.tokenizer.tokens([""]).tokens.shape[1]
        longest = getattr(encoder, "length", None)
        if longest is not None and length > longest:
            return (
                f"data.tokenizer makes {length} tokens and objective.text reads {longest}; "
                "make its length the greater"
            )
        return None

    @property
    def epoch_steps(self) -> int:
        """Steps of one pass over the data."""
        return self.plan.epoch_steps

    @property
    def shapes(self) -> Mapping[str, Batch]:
        """For each bucket in use, by its name, a global batch of arrays that take no memory."""
        return {str(bucket.size): self._abstract(bucket) for bucket in self.plan.used}

    def _abstract(self, bucket: Bucket) -> Batch:
        def zeros(*shape: int, kind: Any) -> Any:
            return np.broadcast_to(np.zeros((), kind), shape)

        one = self.content.blank(bucket, 1)
        text = self.tokenizer.tokens([""])
        fields = {
            self.content.field: zeros(bucket.batch, *one.shape[1:], kind=one.dtype),
            "extent": zeros(bucket.batch, 3, kind=np.int32),
            "tokens": zeros(bucket.batch, *text.tokens.shape[1:], kind=text.tokens.dtype),
            "length": zeros(bucket.batch, kind=text.length.dtype),
        }
        for name, one in self.content.blank_spans(bucket, 1).items():
            fields[name] = zeros(bucket.batch, *one.shape[1:], kind=one.dtype)
        return as_loaded({"bucket": "", "failed": {}, **fields}).batch

    def some_of_each_bucket(self, batches: int) -> Iterator[Loaded]:
        """The first `batches` steps of every bucket, or as many as one pass has of it."""
        assembly = Assembly(plan=self.plan, content=self.content, tokenizer=self.tokenizer)
        left = {bucket.size: batches for bucket in self.plan.used}
        for step in range(self.epoch_steps):
            size = self.plan.step(step).bucket.size
            if left[size]:
                left[size] -= 1
                yield as_loaded(assembly(step))
            elif not any(left.values()):
                return

    def loader(self, *, start: int = 0, share: Share = ALL_ROWS) -> Loader:
        """A share of the rows of the steps from `start` on, without end.

        Raises PlanError if a batch cannot be cut into as many equal parts.
        """
        self.plan.check_parts(share.of)
        assembly = Assembly(
            plan=self.plan, content=self.content, tokenizer=self.tokenizer, share=share
        )
        return Loader(assembly, start=start, workers=self.workers, prefetch=self.prefetch)
