"""The stage between two trainings: measure the latents of an autoencoder, and write them down.

Latents are normalised for each channel to mean 0 and deviation 1 over the training data, as latent
diffusion needs (arXiv 2112.10752, section D.1, with one scale; per channel as Wan 2.1 has it). So
the clips are gone through twice: once to measure, once to encode. What is measured is stored with
the weights, and the autoencoder with the latents: whatever is trained on them can be decoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath
from rich.progress import track

from sora_jax import checkpoint
from sora_jax.arrays import Batch, Latent
from sora_jax.training.protocols import Data, Loaded, OpenedData

log = logging.getLogger("sora_jax")

AUTOENCODER = "autoencoder"
"""The frozen autoencoder's folder below that of the latents."""


@runtime_checkable
class Encoder(Protocol):
    """An objective whose model encodes."""

    def init(self, key: Any, batch: Batch) -> Any: ...

    def statistics(self, params: Any, batch: Batch) -> Any:
        """Sums over valid latents; those of several batches can be added."""
        ...

    def calibrated(self, params: Any, totals: Any) -> Any:
        """The parameters, with latents normalised by what was measured."""
        ...

    def encode(self, params: Any, batch: Batch) -> Latent:
        """Normalised latents of the rows."""
        ...

    def frozen(self, params: Any) -> tuple[Any, Any]:
        """The model that encodes and decodes, as a value, and its own parameters."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Where latents go: steps from `start` on, which is above 0 if an earlier run was cut short."""

    start: int

    def write(self, loaded: Any, latent: np.ndarray, *, step: int) -> None: ...

    def finish(self) -> None: ...


@runtime_checkable
class OpenedPixels(OpenedData, Protocol):
    """Scanned pixels that one pass of `epoch_steps` steps holds exactly once."""

    @property
    def epoch_steps(self) -> int: ...

    def sink(self, path: str, *, encoder: str) -> Sink: ...


@runtime_checkable
class Pixels(Protocol):
    """Data that can be gone through once."""

    def once(self) -> Data: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encode:
    """A stage that encodes. `run` carries it out; the latents are in the stage's folder."""

    name: str
    autoencoder: str
    """The run that trained it, such as {out}/autoencoder; its averaged parameters are taken."""
    data: Pixels


def run(encode: Encode, folder: epath.PathLike) -> None:
    """Writes latents and the frozen autoencoder into `folder`; what is done is not done again.

    Raises CheckpointError where the autoencoder is missing or cannot encode, and what the data
    raises.
    """
    folder = checkpoint.located(folder)
    if list(folder.glob("manifest-*.json")):
        return
    data = encode.data.once().open()
    assert isinstance(data, OpenedPixels)
    shape = next(iter(data.shapes.values()))
    objective, params = _trained(encode.autoencoder, shape)
    data.check(objective)
    params = objective.calibrated(params, _measured(objective, params, data))
    checkpoint.write_frozen(folder / AUTOENCODER, *objective.frozen(params))
    weights = hashlib.sha256((folder / AUTOENCODER / checkpoint.WEIGHTS).read_bytes()).hexdigest()
    sink = data.sink(str(folder), encoder=weights)
    apply = jax.jit(objective.encode)
    for step, loaded in _passed(data, start=sink.start, doing=f"{encode.name}: encoding"):
        for name, reason in loaded.failed.items():
            log.warning("cannot read %s (%s): it is left out", name, reason)
        sink.write(loaded, np.asarray(apply(params, loaded.batch)), step=step)
    sink.finish()


def _trained(path: str, shape: Batch) -> tuple[Encoder, Any]:
    step = checkpoint.newest(path)
    objective = checkpoint.read_experiment(step).objective
    if not isinstance(objective, Encoder):
        raise checkpoint.CheckpointError(
            f"{step} was trained by {type(objective).__name__}, which does not encode"
        )
    return objective, checkpoint.read_params(step, checkpoint.abstract(objective, shape))


def _measured(objective: Encoder, params: Any, data: OpenedPixels) -> Any:
    measure = jax.jit(objective.statistics)
    totals = None
    for _, loaded in _passed(data, start=0, doing="measuring latents"):
        found = measure(params, loaded.batch)
        totals = found if totals is None else totals + found
    return totals


def _passed(data: OpenedPixels, *, start: int, doing: str) -> Iterator[tuple[int, Loaded]]:
    steps = range(start, data.epoch_steps)
    with contextlib.closing(data.loader(start=start)) as loader:
        for step in track(steps, description=doing, transient=True):
            yield step, next(loader)
