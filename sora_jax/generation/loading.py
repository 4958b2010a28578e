"""Generators in folders: runs of `sora-jax train`, and frozen ones, which are small enough to give.

A frozen generator, which `freeze` makes of a run, is a folder of

    model.json           a `Generator`, the value that says what it is
    weights.safetensors  its averaged parameters, matrices in half precision
    experiment.json      how it was trained
    autoencoder/         model.json and weights.safetensors of the autoencoder that it goes with

One comes with the package: `load()` without a folder takes it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from sora_jax import checkpoint
from sora_jax.arrays import Batch, Size
from sora_jax.frozen import AUTOENCODER, MODEL, read_frozen, write_frozen
from sora_jax.generation.devices import Devices
from sora_jax.generation.domain import Domain, vocabulary
from sora_jax.generation.model import Tokenizer
from sora_jax.generation.pipeline import Pipeline
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.parallel.mesh import Mesh

EXPERIMENT = "experiment.json"

SHIPPED = Path(__file__).parent.parent / "assets" / "worlds"
"""The generator that comes with the package."""

_CAPTIONS_READ = 20_000
"""Clips whose captions are read for the words that a generator knows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generator:
    """What a frozen generator is, apart from its parameters; see `Pipeline`."""

    denoiser: Any
    tokenizer: Any
    fps: float
    domain: Domain


def find(folder: epath.PathLike) -> epath.Path:
    """Returns the run that a folder stands for: itself, or the one stage in it that can generate.

    Raises CheckpointError where there is none, or several.
    """
    path = checkpoint.located(folder)
    if not path.exists():
        raise checkpoint.CheckpointError(f"there is no folder {path}")
    if (path / checkpoint.CHECKPOINTS).exists() or (path / "experiment").exists():
        return path
    runs = [
        child
        for child in path.iterdir()
        if (child / checkpoint.CHECKPOINTS).exists() and (child / AUTOENCODER).exists()
    ]
    if len(runs) != 1:
        names = ", ".join(sorted(run.name for run in runs)) or "none"
        raise checkpoint.CheckpointError(
            f"{path} is no run, and of its folders these can generate: {names}; name one"
        )
    return runs[0]


def load(
    folder: epath.PathLike | None = None, *, averaged: bool = True, mesh: Mesh | None = None
) -> Pipeline:
    """Returns the pipeline of a generator: the one that comes with the package, or a folder's.

    folder    a run of `sora-jax train`, its stage folder or one checkpoint of it; or a frozen
              generator.
    averaged  take the averaged parameters of a run, not those last trained.
    mesh      devices to share the work among (see `devices`); None takes one.

    Raises CheckpointError, naming the path, for what is missing, damaged, not a generator, or holds
    a NaN; and MeshError for a mesh that does not fit the devices.
    """
    devices = Devices(mesh)
    if folder is None:
        if not (SHIPPED / MODEL).exists():
            raise checkpoint.CheckpointError(
                f"this version of sora_jax comes without a generator ({SHIPPED} holds none); name "
                "the folder of a run, on the command line with --checkpoint"
            )
        return _frozen(checkpoint.located(SHIPPED), devices, source="the worlds model of sora_jax")
    path = checkpoint.located(folder)
    if (path / MODEL).exists():
        return _frozen(path, devices, source=str(path))
    step, record = _record(path)
    home = step.parent.parent if step.parent.name == checkpoint.CHECKPOINTS else step
    vae, vae_params = read_frozen(home / AUTOENCODER)
    position = checkpoint.read_record(step, "data")
    one = smallest_batch(vae, record.data.tokenizer)
    abstract = checkpoint.abstract(
        record.objective, one, shardings=devices.shardings if devices else None
    )
    return _checked(
        Pipeline(
            denoiser=record.objective,
            params=checkpoint.read_params(step, abstract, item="ema" if averaged else "params"),
            vae=vae,
            vae_params=devices.everywhere(vae_params),
            tokenizer=record.data.tokenizer,
            fps=float(position["fps"]),
            source=str(step),
            domain=Domain(sizes=sizes_of(position.get("buckets", ()))),
            devices=devices,
        )
    )


def freeze(
    folder: epath.PathLike, out: epath.PathLike, *, about: str, experiment: Any = None
) -> None:
    """Writes the generator of a run into `out`, to be given to others.

    `about` says what it can be asked for; `experiment`, as JSON data, how it came about, kept
    beside it: by default the stage that trained it. The words that it knows are gathered from the
    captions of its training data, which must still be there. Raises CheckpointError as `load`
    does, and FileExistsError if `out` holds a model already.
    """
    out = checkpoint.located(out)
    if (out / MODEL).exists():
        raise FileExistsError(f"{out} holds a model already; remove it, or give another folder")
    pipeline = load(folder)
    step, record = _record(checkpoint.located(folder))
    data = record.data.open()
    generator = Generator(
        denoiser=pipeline.denoiser,
        tokenizer=pipeline.tokenizer,
        fps=pipeline.fps,
        domain=Domain(
            about=about, words=vocabulary(_captions(data.content)), sizes=sizes_of(data.shapes)
        ),
    )
    write_frozen(out / AUTOENCODER, pipeline.vae, _halved(pipeline.vae_params))
    if experiment is None:
        experiment = checkpoint.read_record(step, "experiment")
    (out / EXPERIMENT).write_text(json.dumps(experiment, indent=1))
    write_frozen(out, generator, _halved(pipeline.params))


def _frozen(path: epath.Path, devices: Devices, *, source: str) -> Pipeline:
    generator, params = read_frozen(path)
    if not isinstance(generator, Generator):
        raise checkpoint.CheckpointError(
            f"{path} holds a frozen {type(generator).__name__}, which generates nothing"
        )
    vae, vae_params = read_frozen(path / AUTOENCODER)
    params = _whole(params)
    if devices:
        one = smallest_batch(vae, generator.tokenizer)
        shapes = checkpoint.abstract(generator.denoiser, one, shardings=devices.shardings)
        params = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), params, shapes)
    return _checked(
        Pipeline(
            denoiser=generator.denoiser,
            params=params,
            vae=vae,
            vae_params=devices.everywhere(_whole(vae_params)),
            tokenizer=generator.tokenizer,
            fps=generator.fps,
            source=source,
            domain=generator.domain,
            devices=devices,
        )
    )


def _record(path: epath.Path) -> tuple[epath.Path, Any]:
    """The newest checkpoint of a run that generates, and the stage that trained it."""
    step = checkpoint.newest(find(path))
    record = checkpoint.read_experiment(step)
    if not hasattr(record.objective, "estimator"):
        raise checkpoint.CheckpointError(
            f"{step} was trained by {type(record.objective).__name__}, which cannot generate; "
            "name the run of the transformer"
        )
    return step, record


def _checked(pipeline: Pipeline) -> Pipeline:
    bad = checkpoint.nonfinite(pipeline.params) + checkpoint.nonfinite(pipeline.vae_params)
    if bad:
        raise checkpoint.CheckpointError(f"{pipeline.source}: not finite: {', '.join(bad[:5])}")
    return pipeline


def smallest_batch(vae: Autoencoder, tokenizer: Tokenizer) -> Batch:
    """Returns the least batch that parameters can be shaped by: of one empty caption."""
    return Batch(
        video=None,
        latent=np.zeros((1, 1, 2, 2, vae.latent_channels), np.float32),
        extent=np.array([[1, *(2 * n for n in vae.factor[1:])]], np.int32),
        text=tokenizer.tokens([""]),
        weight=np.ones(1, np.float32),
    )


def sizes_of(buckets: Iterable[str]) -> tuple[Size, ...]:
    """The sizes of buckets, which are named FRAMESxHEIGHTxWIDTH, in order."""
    return tuple(sorted(Size(*map(int, name.split("x"))) for name in buckets))


def _captions(content: Any) -> Iterator[str]:
    for index in range(min(len(content.names), _CAPTIONS_READ)):
        yield from (caption.text for caption in content.read(index).captions)


def _halved(params: Any) -> Any:
    """Matrices in half precision; vectors cost little and stay as they are."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float16 if leaf.ndim > 1 else np.float32), params
    )


def _whole(params: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
