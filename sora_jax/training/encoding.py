"""The stage between two trainings: measure the latents of an autoencoder, and write them down.

Latents are normalised for each channel to mean 0 and deviation 1 over the training data, as latent
diffusion needs (arXiv 2112.10752, section D.1, with one scale; per channel as Wan 2.1 has it). So
the clips are gone through twice: once to measure, once to encode. What is measured is stored with
the weights, and the autoencoder with the latents: whatever is trained on them can be decoded.

Captions are kept as texts, and no features of them: the text encoders are trained with the model.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from rich.progress import track

from sora_jax import checkpoint, config
from sora_jax.arrays import Batch, Share
from sora_jax.frozen import AUTOENCODER, MODEL, WEIGHTS, read_frozen, write_frozen
from sora_jax.parallel import processes
from sora_jax.parallel.mesh import Mesh
from sora_jax.training import preemption
from sora_jax.training.protocols import HOW_READ, Encoder, Loaded, OpenedPixels, Pixels, Sink
from sora_jax.training.watchdog import Watchdog

log = logging.getLogger("sora_jax")

MAY_CHANGE = ("mesh", "rows", "patience", "long_patience", *HOW_READ)
"""Fields that latents do not depend on: which devices encode, how much at once, and who waits."""

RECORD = "encode.json"
"""How the latents beside it were made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encode:
    """A stage that encodes. `run` carries it out; the latents are in the stage's folder."""

    name: str
    autoencoder: str
    """The run that trained it, such as {out}/autoencoder, whose averaged parameters are taken; or
    the folder of a frozen one, whose latents keep the normalisation that they have."""
    data: Pixels
    mesh: Mesh = Mesh(devices=1)
    """Devices that share the rows of a batch; of several processes each has such a mesh of its own
    devices, and encodes its own part of the rows."""
    measure_steps: int | None = None
    """Steps of the data, in their shuffled order, over which latents are measured; None for all."""
    rows: int | None = None
    """The most rows of a batch that are encoded together, of those that divide what each process
    has of it; None takes all. Long and large clips are encoded whole, which limits how many fit."""
    patience: float = 600.0
    """Seconds that one of several processes has at least to read a batch, to encode it, or to write
    latents, before it counts as one that hangs and ends; ten times the longest of its kind so far
    if that is more. Batches are large here, and storage may be slow."""
    long_patience: float = 3600.0
    """Seconds that the first two batches of a bucket may take, for which programs are compiled, and
    what is no batch."""

    def __post_init__(self) -> None:
        if self.measure_steps is not None and self.measure_steps < 1:
            raise ValueError(f"measure_steps is {self.measure_steps}; give 1 or more, or None")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows is {self.rows}; give 1 or more, or None")

    def together(self, held: int) -> int:
        """Returns how many of `held` rows are encoded together."""
        most = min(self.rows or held, held)
        return next(rows for rows in range(most, 0, -1) if held % rows == 0)


def run(
    encode: Encode,
    folder: epath.PathLike,
    *,
    record: Any,
    thawed: Callable[[Any, Any], tuple[Encoder, Any]],
) -> None:
    """Writes latents and the frozen autoencoder into `folder`; what is done is not done again.

    record  the JSON form of `encode`, kept beside the latents.
    thawed  makes an encoder and its parameters of a frozen model and its own.

    Raises CheckpointError where the autoencoder is missing or cannot encode, or where the folder
    holds latents of other settings or another autoencoder; and what the data raises.
    """
    folder = checkpoint.located(folder)
    watched = _Watched.of(encode)
    with watched.watchdog:
        with watched.watchdog.other("looking at what is there"):
            if processes.first():
                own = {"encode": record, "autoencoder": _identity(encode.autoencoder)}
                _check_same(folder, own)
            processes.wait_for_all(f"{encode.name}: checked")
        if not _finished(folder):
            with watched.notice:
                _encode(watched, folder, thawed)
        # However long the slowest takes: one that hangs ends by itself.
        processes.wait_for_all(f"{encode.name}: encoded")
        preemption.together()


def _finished(folder: epath.Path) -> bool:
    """Whether as many processes as there were have finished."""
    found = collections.Counter(
        int(path.stem.rpartition("-of-")[2]) for path in folder.glob("manifest-*-of-*.json")
    )
    return any(count == of for of, count in found.items())


def _encode(
    watched: _Watched,
    folder: epath.Path,
    thawed: Callable[[Any, Any], tuple[Encoder, Any]],
) -> None:
    """This process's share."""
    encode, share = watched.encode, processes.own_share()
    with watched.watchdog.other("opening the data"):
        data = encode.data.once().open()
    assert isinstance(data, OpenedPixels)
    devices = _devices(encode, data, share)
    # What an earlier run measured is kept: latents must not be normalised in two ways.
    own = folder / AUTOENCODER
    with watched.watchdog.other("reading the autoencoder"):
        kept = (own / MODEL).exists()
        frozen = own if kept else checkpoint.located(encode.autoencoder)
        measured = (frozen / MODEL).exists()
        if measured:
            objective, params = thawed(*read_frozen(frozen))
        else:
            objective, params = _trained(encode.autoencoder, next(iter(data.shapes.values())))
    data.check(objective)
    params = jax.device_put(params, NamedSharding(devices, PartitionSpec()))
    with encode.mesh.use(devices):
        place = encode.mesh.batch_sharding(devices)
        if not measured:
            totals = _measured(watched, objective, params, data, place)
            params = objective.calibrated(params, totals)
        if frozen != own and processes.first():
            write_frozen(own, *objective.frozen(params))
        with watched.watchdog.other("measuring"):
            processes.wait_for_all(f"{encode.name}: measured")
        weights = hashlib.sha256((own / WEIGHTS).read_bytes()).hexdigest()
        if (folder / f"manifest-{share.parts[0]:05d}-of-{share.of:05d}.json").exists():
            return
        sink = data.sink(str(folder), encoder=weights, share=share)
        _write(watched, objective, params, data, place, sink)


def _write(
    watched: _Watched, objective: Encoder, params: Any, data: OpenedPixels, place: Any, sink: Sink
) -> None:
    """Encodes what is left of the data into the sink."""
    encode, share, watchdog = watched.encode, processes.own_share(), watched.watchdog
    encode_all, encode_spans = jax.jit(objective.encode), jax.jit(objective.encode_spans)
    steps = range(sink.start, data.epoch_steps)
    try:
        for step, loaded in watched.batches(data, share, steps, doing="encoding"):
            for name, reason in loaded.failed.items():
                log.warning("cannot read %s (%s): it is left out", name, reason)
            parts = list(_parts(encode, loaded.batch, place))
            latent = np.concatenate([encode_all(params, part) for part in parts])
            spans = None
            if loaded.batch.spanned is not None:
                spans = np.concatenate([encode_spans(params, part) for part in parts])
            with watchdog.alone(f"latents of batch {step} to be written", kind="writing"):
                sink.write(loaded, latent, step=step, spans=spans)
    except preemption.Preempted:
        with watchdog.alone("latents to be kept", kind="writing"):
            sink.keep()
        raise
    with watchdog.alone("latents to be finished", kind="writing"):
        sink.finish()


def _devices(encode: Encode, data: OpenedPixels, share: Share) -> jax.sharding.Mesh:
    """This process's devices that take part: of few rows as many as these can be dealt out to."""
    local, together = jax.local_devices(), {}
    for name, batch in data.shapes.items():
        held, left = divmod(len(batch.weight), share.of)
        if left:
            raise ValueError(
                f"{encode.name}: {share.of} processes cannot share the {len(batch.weight)} rows of "
                f"bucket {name} evenly; make its batch a multiple of {share.of}"
            )
        together[name] = encode.together(held)
    count = len(local)
    if encode.mesh.devices is None:
        count = math.gcd(count, *together.values())
    if count < len(local) and encode.mesh.devices is None:
        log.warning(
            "%s: %d of the %d devices of this process take part, as its rows of a batch (%s) "
            "cannot be dealt out to more; make the batches larger",
            encode.name,
            count,
            len(local),
            ", ".join(f"{name}: {rows}" for name, rows in together.items()),
        )
    devices = encode.mesh.build(local[:count])
    for name, rows in together.items():
        encode.mesh.check_batch(rows, devices, bucket=name)
    return devices


def _parts(encode: Encode, batch: Batch, place: Any) -> Iterator[Batch]:
    """The batch in parts of `rows`, on the devices."""
    count = len(batch.weight)
    rows = encode.together(count)
    for start in range(0, count, rows):
        yield jax.tree.map(
            lambda leaf, start=start: jax.device_put(leaf[start : start + rows], place), batch
        )


def _identity(autoencoder: str) -> Any:
    """What tells one trained or frozen autoencoder from another."""
    path = checkpoint.located(autoencoder)
    if (path / MODEL).exists():
        return hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    step = checkpoint.newest(path)
    return {"step": step.name, "run": checkpoint.read_record(step, "experiment")}


def _check_same(folder: epath.Path, record: Any) -> None:
    """Keeps the record; raises CheckpointError if there are latents that have another."""
    kept = folder / RECORD
    changed = []
    if kept.exists():
        old, new = (
            form | {"encode": config.without(form["encode"], MAY_CHANGE)}
            for form in (json.loads(kept.read_text()), record)
        )
        changed = config.differences(old, new)
    latents = [path for path in folder.glob("*.json") if path.name != RECORD]
    if not latents:
        folder.mkdir(parents=True, exist_ok=True)
        if changed:
            (folder / AUTOENCODER / MODEL).unlink(missing_ok=True)
        kept.write_text(json.dumps(record, indent=1))
    elif changed:
        lines = "\n  ".join(changed)
        raise checkpoint.CheckpointError(
            f"{folder} holds latents that were made otherwise; different:\n  {lines}\n"
            "Remove the folder to encode again (and what was trained on it), give another --out, "
            "or undo the change."
        )


def _trained(path: str, shape: Batch) -> tuple[Encoder, Any]:
    step = checkpoint.newest(path)
    objective = checkpoint.read_experiment(step).objective
    if not isinstance(objective, Encoder):
        raise checkpoint.CheckpointError(
            f"{step} was trained by {type(objective).__name__}, which does not encode"
        )
    return objective, checkpoint.read_params(step, checkpoint.abstract(objective, shape))


def _measured(
    watched: _Watched, objective: Encoder, params: Any, data: OpenedPixels, place: Any
) -> Any:
    encode, share = watched.encode, processes.own_share()
    measure = jax.jit(objective.statistics)
    totals = None
    steps = range(min(encode.measure_steps or data.epoch_steps, data.epoch_steps))
    for _, loaded in watched.batches(data, share, steps, doing="measuring latents"):
        for part in _parts(encode, loaded.batch, place):
            found = measure(params, part)
            totals = jax.block_until_ready(found if totals is None else totals + found)
    with watched.watchdog.other("measuring"):
        return processes.total(totals)


@dataclasses.dataclass(frozen=True)
class _Watched:
    """Goes through data, and ends where the machine is to be taken away, or where this process, of
    several, hangs: both while they are entered."""

    encode: Encode
    notice: preemption.Notice
    watchdog: Watchdog

    @classmethod
    def of(cls, encode: Encode) -> _Watched:
        watchdog = Watchdog(
            encode.name, patience=encode.patience, long_patience=encode.long_patience
        )
        return cls(encode, preemption.Notice(), watchdog)

    def batches(
        self, data: OpenedPixels, share: Share, steps: range, *, doing: str
    ) -> Iterator[tuple[int, Loaded]]:
        """The batches of some steps. Raises Preempted between two of them if there is a notice."""
        told, alone = f"{self.encode.name}: {doing}", self.watchdog.alone
        with contextlib.closing(data.loader(start=steps.start, share=share)) as loader:
            for step in track(steps, description=told, transient=True):
                with alone(f"clips of batch {step} to be read", kind="reading"):
                    loaded = next(loader)
                with alone(f"batch {step} to be taken ({doing})", kind=f"{doing} {loaded.bucket}"):
                    yield step, loaded
                if self.notice.reached():
                    log.warning("%s: this machine is to be taken away; what is encoded stays", told)
                    raise preemption.Preempted
