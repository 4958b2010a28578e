"""The commands that make models: train, encode, freeze."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from sora_jax import config


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Trains the stages of an experiment file in order, skipping those that are done.

    Further flags change the experiment's own fields: `--objective.model.depth 4`, or
    `--STAGE.objective.model.depth 4` where it has several stages.
    """

    experiment: tyro.conf.Positional[str]
    """A Python file that binds `experiment` (and `smoke`)."""
    out: str | None = None
    """The run's folder, local or gs://; by default runs/ and the file's name."""
    smoke: bool = False
    """Run the file's tiny twin."""
    until: str | None = None
    """Name of the last stage to run."""
    profile: str | None = None
    """FIRST:LAST of the steps to profile, for TensorBoard, into the stage's folder."""

    distributed: bool = False
    """One of several processes of this run, one a host; JAX finds the others on TPU VMs and under
    SLURM, Open MPI or Kubernetes."""
    coordinator: str | None = None
    """HOST:PORT of the first process, where JAX cannot find it; with the two that follow."""
    processes: int | None = None
    """How many processes there are."""
    process: int | None = None
    """Which of them this is, from 0."""

    @property
    def profiled(self) -> tuple[int, int] | None:
        if self.profile is None:
            return None
        first, _, last = self.profile.partition(":")
        if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
            raise ValueError(f"--profile {self.profile}: give FIRST:LAST, such as 10:15")
        return int(first), int(last)


def train(arguments: Annotated[Sequence[str], tyro.conf.arg(metavar="...")] = ()) -> None:
    """Train an experiment file: `sora-jax train FILE --help` lists all of its numbers."""
    from sora_jax.checkpoint import located
    from sora_jax.parallel.processes import join
    from sora_jax.stages import override, run_stages
    from sora_jax.training.programs import keep_in

    asked = [flag for flag in arguments if flag in ("-h", "--help")]
    rest = [flag for flag in arguments if flag not in ("-h", "--help")]
    if asked and not rest:
        tyro.cli(TrainFlags, prog="sora-jax train", args=["--help"])
    flags, unknown = tyro.cli(
        TrainFlags, prog="sora-jax train", args=rest, return_unknown_args=True
    )
    others = (flags.coordinator, flags.processes, flags.process)
    if flags.distributed or any(each is not None for each in others):
        join(*others)
    stages = config.read_experiment(flags.experiment, smoke=flags.smoke)
    stages = override(stages, [*unknown, *asked], program="sora-jax train EXPERIMENT")
    profile = flags.profiled
    folder = flags.out or f"runs/{Path(flags.experiment).stem}"
    keep_in(located(folder) / "programs")
    run_stages(stages, folder, until=flags.until, profile=profile)


def encode(
    autoencoder: tyro.conf.Positional[str],
    data: tyro.conf.Positional[str],
    *,
    out: str,
    tokens: int = 4096,
    fps: float | None = None,
) -> None:
    """Encode clips into latents for the training of a transformer.

    Args:
        autoencoder: the run of an autoencoder, or a frozen one.
        data: a folder (local or gs://) or the name of a tensorflow-datasets set.
        out: the folder to write.
        tokens: the token budget of a batch.
        fps: frames per second to read at; by default each clip's own.
    """
    from sora_jax.stages import encode_folder

    encode_folder(autoencoder, data, out=out, tokens=tokens, fps=fps)


def freeze(run: tyro.conf.Positional[str], *, about: str, out: str) -> None:
    """Make a small folder of a trained generator, to be given to others.

    Args:
        run: the run, its stage or one checkpoint of it, with the data that it was trained on.
        about: what the model can be asked for; prompts that go beyond are answered with it.
        out: the folder to write; --checkpoint takes it.
    """
    from sora_jax.generation.loading import freeze

    freeze(run, out, about=about)
    print(out)
