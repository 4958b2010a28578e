"""Runs the stages of an experiment in order, each in its own folder below the run's."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath

from sora_jax import checkpoint, config
from sora_jax.checkpoint import located
from sora_jax.data.buckets import GRID
from sora_jax.description import clips_of
from sora_jax.frozen import MODEL, read_frozen
from sora_jax.generation.loading import EXPERIMENT, freeze
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.training import encoding, loop
from sora_jax.training.encoding import Encode
from sora_jax.training.preemption import Notice
from sora_jax.training.train import Train

log = logging.getLogger("sora_jax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freeze:
    """A stage that makes of a trained generator a small folder, to be given to others."""

    name: str
    run: str
    """The stage that trained it, such as {out}/transformer."""
    about: str
    """What the model can be asked for."""


def override(stages: config.Stages, arguments: Sequence[str], *, program: str) -> config.Stages:
    """Returns `stages` with the fields that a command line names changed, as `config.override`
    does; changes of a training's mesh hold for those that it lists for slices as well."""
    changed = config.override(stages, arguments, program=program)
    return tuple(
        stage.changed_from(before) if isinstance(stage, Train) else stage
        for stage, before in zip(changed, stages, strict=True)
    )


def run_stages(
    stages: config.Stages,
    folder: epath.PathLike,
    *,
    until: str | None = None,
    profile: tuple[int, int] | None = None,
) -> None:
    """Runs `stages` in `folder`, each going on from where it stood; those done cost nothing.

    `{out}` in a stage's strings stands for `folder`; `profile` are the first and the last of the
    steps of a training that are profiled. Raises ConfigError for a stage that is no
    stage, or if `until` is none of their names.
    """
    names = [str(getattr(stage, "name", "")) for stage in stages]
    if len(set(names)) != len(names) or "" in names:
        raise config.ConfigError(f"stages need a `name` of their own each, not {names}")
    if until is not None and until not in names:
        raise config.ConfigError(f"--until {until} is none of the stages {', '.join(names)}")
    whole = config.to_json(stages)
    with Notice() if jax.process_count() > 1 else contextlib.nullcontext():
        for stage in stages:
            _run(stage, located(folder), profile, whole)
            if stage.name == until:
                return


def _run(stage: Any, folder: epath.Path, profile: tuple[int, int] | None, whole: Any) -> None:
    home = folder / stage.name
    home.mkdir(parents=True, exist_ok=True)
    # What is kept names no folder, so that a run may be moved and gone on with.
    record = config.to_json(stage)
    placed = config.place(stage, out=str(folder))
    if isinstance(placed, Train):
        loop.run(placed, home, record=record, profile=profile)
    elif isinstance(placed, Encode):
        encoding.run(placed, home, record=record, thawed=Autoencoding.thawed)
    elif isinstance(placed, Freeze):
        _freeze(placed, home, whole)
    else:
        raise config.ConfigError(f"{stage.name} is a {type(stage).__name__}, not a stage")
    log.info("%s: done, in %s", stage.name, home)


def _freeze(stage: Freeze, home: epath.Path, experiment: Any) -> None:
    """What is frozen already stays, if it is of the same experiment."""
    if jax.process_count() > 1:
        raise config.ConfigError(
            f"{stage.name}: freezing is work for one process; run the same command in one alone"
        )
    if not (home / MODEL).exists():
        freeze(stage.run, home, about=stage.about, experiment=experiment)
    elif json.loads((home / EXPERIMENT).read_text()) != experiment:
        raise checkpoint.CheckpointError(
            f"{home} holds the generator of another experiment, or of this one before it was "
            "changed; remove the folder to freeze anew"
        )


def encode_folder(autoencoder: str, data: str, *, out: str, tokens: int, fps: float | None) -> None:
    """Encodes what `data` stands for on the command line into latents in `out`."""
    grid = dataclasses.replace(GRID, factor=_autoencoder(autoencoder).factor)
    clips = clips_of(data, tokens=tokens, fps=fps, grid=grid)
    stage = Encode(name="latents", autoencoder=autoencoder, data=clips)
    encoding.run(stage, out, record=config.to_json(stage), thawed=Autoencoding.thawed)
    log.info("latents are in %s", out)


def _autoencoder(folder: str) -> Autoencoder:
    """The model in a run of its training, or in the folder of a frozen one."""
    if (located(folder) / MODEL).exists():
        return read_frozen(folder)[0]
    objective = checkpoint.read_experiment(checkpoint.newest(folder)).objective
    if not isinstance(objective, Autoencoding):
        raise checkpoint.CheckpointError(
            f"{folder} was trained by {type(objective).__name__}; name the run of an autoencoder"
        )
    return objective.vae
