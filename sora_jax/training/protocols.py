"""What the loop, and the stage that encodes, ask of those who provide the loss, the data and the
evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from etils import epath
from jaxtyping import Array, Float, Int

from sora_jax.arrays import ALL_ROWS, Batch, Key, Latent, Share

Metrics = dict[str, Any]
"""Scalars by name. A pair `name/sum`, `name/count` is averaged over steps as sum over count."""

HOW_READ = ("data.workers", "data.prefetch", "data.keep_megabytes")
"""Fields of a stage that say how its batches are read, and not what is in them."""


@runtime_checkable
class Objective(Protocol):
    """A model with its loss."""

    def init(self, key: Key, batch: Batch) -> Any:
        """Fresh parameters, boxed with Linen's axis names. Their first level names the groups."""
        ...

    def loss(
        self, params: Any, key: Key, batch: Batch, step: Int[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of one batch (0 for one of empty rows) and what else to report."""
        ...


@runtime_checkable
class Loaded(Protocol):
    """One step's batch: this host's rows of it, as NumPy arrays."""

    @property
    def bucket(self) -> str:
        """Its frames x height x width in pixels, such as 17x64x64."""
        ...

    @property
    def batch(self) -> Batch: ...

    @property
    def failed(self) -> Mapping[str, str]:
        """Name and reason of each clip that could not be read, whose row is empty."""
        ...


@runtime_checkable
class Loader(Protocol):
    """Batches without end, read ahead by threads or processes until it is closed."""

    def __next__(self) -> Loaded: ...

    def close(self) -> None: ...


@runtime_checkable
class OpenedData(Protocol):
    """Scanned data, with its plan of batches."""

    @property
    def shapes(self) -> Mapping[str, Batch]:
        """An abstract batch (global shapes) for each bucket, by the bucket's name."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the plan of batches does: other files, other buckets, another seed."""
        ...

    @property
    def fps(self) -> float:
        """Frames per second of its clips, the median where they differ; 0 for stills alone."""
        ...

    @property
    def artifacts(self) -> Mapping[str, str]:
        """Folders of frozen models that a model trained on this data depends on, by name."""
        ...

    def check(self, objective: Any) -> None:
        """Raises ValueError, naming the fields, if it cannot be trained on this data."""
        ...

    def loader(self, *, start: int = 0, share: Share = ALL_ROWS) -> Loader:
        """A share of the rows of each batch from step `start` on, without end."""
        ...


@runtime_checkable
class Data(Protocol):
    """A frozen value that names the data of a run."""

    def open(self) -> OpenedData: ...


@runtime_checkable
class Evaluator(Protocol):
    """Something measured (or drawn) at intervals from the averaged parameters."""

    @property
    def every(self) -> int:
        """Steps between two evaluations; the last step is always evaluated."""
        ...

    def __call__(
        self, objective: Any, params: Any, *, data: Any, folder: epath.Path, step: int
    ) -> Mapping[str, float]:
        """Metrics by name; `data` is the run's, and files may be written below `folder`."""
        ...


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

    def encode_spans(self, params: Any, batch: Batch) -> Latent:
        """The same, of the frames of `Batch.spanned` by themselves; elsewhere anything."""
        ...

    def frozen(self, params: Any) -> tuple[Any, Any]:
        """The model that encodes and decodes, as a value, and its own parameters."""
        ...


@runtime_checkable
class Sink(Protocol):
    """Where latents go: steps from `start` on, which is above 0 if an earlier run was cut short."""

    start: int

    def write(
        self, loaded: Any, latent: np.ndarray, *, step: int, spans: np.ndarray | None = None
    ) -> None: ...

    def keep(self) -> None:
        """Has what it was given on disk."""
        ...

    def finish(self) -> None: ...


@runtime_checkable
class OpenedPixels(OpenedData, Protocol):
    """Scanned pixels that one pass of `epoch_steps` steps holds exactly once."""

    @property
    def epoch_steps(self) -> int: ...

    def sink(self, path: str, *, encoder: str, share: Share) -> Sink: ...


@runtime_checkable
class Pixels(Protocol):
    """Data that can be gone through once."""

    def once(self) -> Data: ...
