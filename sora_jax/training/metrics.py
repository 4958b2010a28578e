"""Metrics of a run: averaged between two reports, kept as JSON lines and for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath
from tensorboardX import SummaryWriter

from sora_jax.files import is_remote
from sora_jax.training.protocols import Loaded

log = logging.getLogger("sora_jax")

LINES = "metrics.jsonl"
_BETWEEN = 60.0
"""Seconds between two writings of all lines."""
LAST_VALUES = ("skipped", "skipped_in_a_row")
"""Counters: what they stand at is reported, not their mean."""


class Meter:
    """Averages scalars over steps; pairs `name/sum`, `name/count` as sum over count."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)
        self._last: dict[str, float] = {}

    def add(self, metrics: Mapping[str, Any], *, bucket: str) -> None:
        """Takes one step's metrics; the loss is averaged for each bucket apart as well."""
        values = {name: float(value) for name, value in metrics.items()}
        if "loss" in values:
            values[f"loss/{bucket}"] = values["loss"]
        for name, value in values.items():
            if name in LAST_VALUES:
                self._last[name] = value
                continue
            kind = name.removesuffix("/sum")
            # A step that was skipped is counted as such and leaves the means alone.
            if name.endswith("/count") or not math.isfinite(value):
                continue
            self._sums[kind] += value
            self._counts[kind] += values[f"{kind}/count"] if kind != name else 1

    def drain(self) -> dict[str, float]:
        """Returns the averages since the last call, and starts anew."""
        means = {k: self._sums[k] / n for k, n in sorted(self._counts.items()) if n}
        result = means | self._last
        self.__init__()
        return result


class Interval:
    """What the host counts between two reports: clips, waiting, rows that could not be read.

    share  of the rows of a batch that this host has; clips a second are told of all hosts, and the
           rest of this one.
    """

    def __init__(self, share: float = 1.0) -> None:
        self._share = share
        self._began = time.monotonic()
        self._waited = self._useful = self._clips = 0.0
        self._failed = self._steps = 0

    def waited(self, seconds: float) -> None:
        """Counts time for which the devices had nothing to do but wait for data."""
        self._waited += seconds

    def add(self, loaded: Loaded) -> None:
        """Takes one step's rows (this host's)."""
        self._steps += 1
        self._clips += float(loaded.batch.weight.sum())
        self._failed += len(loaded.failed)
        self._useful += useful_share(loaded)

    def drain(self) -> dict[str, float]:
        """Returns the numbers since the last call, and starts anew."""
        seconds = time.monotonic() - self._began
        result = {
            "clips_per_second": self._clips / self._share / seconds,
            "seconds_per_step": seconds / self._steps,
            "waiting_share": self._waited / seconds,
            "useful_share": self._useful / self._steps,
            "unreadable": float(self._failed),
        }
        self.__init__(self._share)
        return result


def useful_share(loaded: Loaded) -> float:
    """The share of this host's part of a bucket (rows x frames x height x width) that is real."""
    frames, height, width = (int(size) for size in loaded.bucket.split("x"))
    volume = loaded.batch.extent.astype(float).prod(axis=1)
    return float(volume.mean() / (frames * height * width))


class _Nowhere:
    """TensorBoard's writer where there is none."""

    def add_scalar(self, name: str, value: float, step: int) -> None: ...

    def close(self) -> None: ...


class Writer:
    """Appends records to `metrics.jsonl` and TensorBoard below the run's folder.

    Lines of steps after `start` are dropped first: they tell of weights that did not survive.
    On gs://, where nothing can be appended, the lines are written whole, once a minute and at
    `flush`; and TensorBoard, which needs a local folder, is left out. What cannot be written is
    told of, and does not end the run.
    """

    def __init__(self, folder: epath.Path, *, start: int):
        self._path = folder / LINES
        self._lines = [line for line in read_lines(folder) if line["step"] <= start]
        self._remote = is_remote(folder)
        self._unwritten = True
        self.flush()
        self._board: Any = _Nowhere()
        if not self._remote:
            with self._while_it_can():
                self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds one record."""
        line = {"step": step, **{name: float(f"{value:.12g}") for name, value in metrics.items()}}
        self._lines.append(line)
        if self._remote:
            self._unwritten = True
            if time.monotonic() - self._written > _BETWEEN:
                self.flush()
        else:
            try:
                with self._path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                log.error("%s: step %d cannot be written: %s", self._path, step, error)
        with self._while_it_can() as board:
            for name, value in metrics.items():
                board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Writes the lines that are not there yet."""
        if not self._unwritten:
            return
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        self._written, self._unwritten = time.monotonic(), False
        try:
            if self._remote:
                self._path.write_text(text)
                return
            partial = self._path.with_name(f"{LINES}.partial")
            partial.write_text(text)
            partial.replace(self._path)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Writes out what is still held."""
        self.flush()
        with self._while_it_can() as board:
            board.close()

    @contextlib.contextmanager
    def _while_it_can(self) -> Iterator[Any]:
        """TensorBoard's writer; once something could not be written, one that does nothing."""
        try:
            yield self._board
        except OSError as error:
            log.error("nothing more is written for TensorBoard: %s", error)
            self._board = _Nowhere()


def read_lines(folder: epath.PathLike) -> list[dict[str, int | float]]:
    """Returns the records of `metrics.jsonl`, less a last line that a kill cut short."""
    path = epath.Path(folder) / LINES
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines if line.endswith("}")]
