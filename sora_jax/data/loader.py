"""From a plan to batches: assembled in worker processes, with a position.

The position is the number of the next step and nothing else: a loader started there, on however
many hosts, gives the batches that an unbroken one would have given.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import grain.python as grain
import numpy as np
from absl import flags

from sora_jax.arrays import ALL_ROWS, Batch, Share
from sora_jax.data.assembly import Assembly, Content, Loaded, Tokenizer, as_loaded
from sora_jax.data.buckets import Bucket
from sora_jax.data.plan import Plan, PlanError

_NOTICE = 60
"""Seconds for which a worker goes on after SIGTERM."""

# More steps than any run takes: the data has no end.
ENDLESS = 2**48


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
