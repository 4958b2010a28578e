"""`sora-jax describe`: what an experiment is or what data holds, told before any training."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from typing import Any, cast

import numpy as np
from etils import epath
from rich.console import Console
from rich.table import Table

from sora_jax import config
from sora_jax.arrays import Size
from sora_jax.data import report
from sora_jax.data.buckets import GRID, Grid, batch_of
from sora_jax.data.datasets import OpenedSource, Source
from sora_jax.data.folder import Folder
from sora_jax.data.framing import fitted, resized
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.suggest import Suggested
from sora_jax.data.tfds import TFDS
from sora_jax.data.video import VideoError, contact_sheet, write_video
from sora_jax.data.worlds.simulators.crafter import Crafter
from sora_jax.data.worlds.simulators.miniworld import MiniWorld
from sora_jax.data.worlds.simulators.vizdoom import ViZDoom
from sora_jax.data.worlds.source import Worlds
from sora_jax.files import is_remote
from sora_jax.models import accounting
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.training.encoding import Encode
from sora_jax.training.train import Train

log = logging.getLogger("sora_jax")

FRAMES = (1, 5, 9, 17, 33)
"""Lengths that `describe DATA` chooses buckets from."""

SIMULATORS = {source.name: source for source in (Crafter(), MiniWorld(), ViZDoom())}
"""Sources of clips that are run when they are opened, by other packages."""


def source_of(what: str) -> Source:
    """Returns the source that a word on the command line stands for.

    `worlds`, the name of a simulator, an existing path or gs://, or else the name of a
    tensorflow-datasets set.
    """
    if what == "worlds":
        return Worlds()
    if what in SIMULATORS:
        return SIMULATORS[what]
    if is_remote(what) or epath.Path(what).expanduser().exists():
        return Folder(path=what)
    if "/" in what and not what.split("/")[0].isidentifier():
        raise ValueError(f"{what}: there is no such folder, and it is no tensorflow-datasets name")
    return TFDS(name=what)


def clips_of(what: str, *, tokens: int, fps: float | None, grid: Grid = GRID) -> Clips:
    """Returns the data that a word stands for, in buckets derived from it."""
    frames = tuple(dict.fromkeys(grid.whole(count) for count in FRAMES))
    pixels = _pixels(tokens, grid, grid.latent(Size(max(frames), 1, 1)).frames)
    buckets = Suggested(tokens=tokens, frames=frames, pixels=pixels)
    return Clips(source=source_of(what), buckets=buckets, fps=fps, grid=grid)


def _pixels(tokens: int, grid: Grid, latent_frames: int) -> int:
    """Pixels of a frame such that one of the longest clips fits into the budget."""
    return max(tokens // latent_frames, 1) * grid.height * grid.width


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataDescription:
    """What data holds; `source` is where its clips are, read at `fps`."""

    report: report.Report
    source: OpenedSource
    fps: float | None

    @property
    def usable(self) -> bool:
        return self.report.usable

    def render(self) -> str:
        return report.render(self.report)

    def to_json(self) -> str:
        return json.dumps(self.report.to_json(), indent=1)

    def draw_sheet(self, path: str, *, clips: int = 18) -> None:
        """Writes a contact sheet of some clips, evenly chosen by name.

        Raises ValueError if none can be read. A clip that cannot is left out, and named in the log.
        """
        records = self.source.records
        order = sorted(range(len(records)), key=lambda index: records[index].name)
        frames, captions = [], []
        for index in order[:: -(-len(order) // clips) or 1]:
            record = records[index]
            try:
                clip = self.source.read(index, 0, 33, fps=self.fps)
            except VideoError as error:
                log.warning("%s is left out: %s", record.name, error)
                continue
            # Of large clips no more is kept than is drawn.
            places = np.linspace(0, len(clip) - 1, min(6, len(clip))).round().astype(int)
            size = fitted(*clip.shape[1:3], box=Size(1, 96, 4 * 96))
            frames.append(resized(clip[places], *size))
            captions.append(record.captions[0].text if record.captions else record.name)
        if not frames:
            raise ValueError(f"none of the clips chosen from {self.report.source} can be read")
        write_video(path, contact_sheet(frames, captions, height=96)[None], fps=1)


def describe_data(what: str, *, tokens: int, fps: float | None) -> DataDescription:
    """Returns what a folder, a tfds set or the worlds hold, in buckets of `tokens` a batch."""
    data = clips_of(what, tokens=tokens, fps=fps)
    source = data.source.open()
    return DataDescription(report=report.describe(data, source), source=source, fps=fps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One model of a stage."""

    stage: str
    model: str
    parameters: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketCost:
    """What a training step of one bucket costs; `bytes` is an estimate of the peak."""

    stage: str
    bucket: str
    batch: int
    tokens: int
    flops: int
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentDescription:
    """What an experiment is made of and costs, and what its data holds where that can be seen."""

    name: str
    parts: tuple[Part, ...]
    buckets: tuple[BucketCost, ...]
    notes: tuple[str, ...]

    usable = True

    def render(self) -> str:
        console = Console(file=io.StringIO(), width=100, highlight=False)
        models = Table("stage", "model", "parameters", title=self.name, title_justify="left")
        for part in self.parts:
            models.add_row(part.stage, part.model, f"{part.parameters:,}")
        console.print(models)
        costs = Table(title="a training step, all devices together", title_justify="left")
        for name in ("stage", "bucket", "batch", "tokens", "GFLOP", "memory, GiB"):
            costs.add_column(name, justify="left" if name in ("stage", "bucket") else "right")
        for cost in self.buckets:
            costs.add_row(
                cost.stage,
                cost.bucket,
                str(cost.batch),
                str(cost.tokens),
                f"{cost.flops / 1e9:,.1f}",
                f"{cost.bytes / 2**30:.2f}",
            )
        if self.buckets:
            console.print(costs)
        for note in self.notes:
            console.print(note, markup=False)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)


def describe_experiment(path: str, *, smoke: bool = False) -> ExperimentDescription:
    """Returns what the stages of an experiment file are made of, and what their steps cost."""
    stages = config.read_experiment(path, smoke=smoke)
    boxes, notes = boxes_of(stages)
    trained = [stage for stage in stages if isinstance(stage, Train)]
    return ExperimentDescription(
        name=path,
        parts=tuple(part for stage in trained for part in _parts(stage)),
        buckets=tuple(
            _cost(stage, size, rows) for stage in trained for size, rows in boxes[stage.name]
        ),
        notes=notes,
    )


Boxes = tuple[tuple[Size, int], ...]
"""Size in pixels and rows of each bucket."""


def boxes_of(stages: config.Stages) -> tuple[dict[str, Boxes], tuple[str, ...]]:
    """Returns the buckets of each stage that trains, by its name, and notes on those not known."""
    notes: list[str] = []
    known: dict[str, Boxes] = {}
    found: dict[str, Boxes] = {}
    for stage in stages:
        if isinstance(stage, Encode):
            # Latents come in the buckets of the pixels that they are made of.
            known[f"{{out}}/{stage.name}"] = _shapes(stage.data, notes, stage.name)
        elif isinstance(stage, Train):
            path = stage.data.path if isinstance(stage.data, LatentClips) else None
            shapes = known.get(path) if path else None
            if shapes is None:
                found[stage.name] = _shapes(stage.data, notes, stage.name)
            else:
                found[stage.name] = tuple((size, _rows(stage, size, rows)) for size, rows in shapes)
    return found, tuple(dict.fromkeys(notes))


def _rows(stage: Train, size: Size, encoded: int) -> int:
    """The clips of a bucket in a stage that trains on latents, `encoded` so many at a time."""
    objective, data = cast(Any, stage.objective), cast(Any, stage.data)
    if data.tokens is None:
        return encoded
    grid = Grid(factor=objective.factor, patch=Size(*objective.model.patch))
    return batch_of(size, data.tokens, grid=grid, multiple=data.multiple)


def _shapes(data: Any, notes: list[str], stage: str) -> Boxes:
    """Size and rows of each bucket, where the data can be looked at; a note where it cannot."""
    boxes = getattr(data, "buckets", None)
    if not isinstance(boxes, tuple):
        try:
            boxes = data.open().plan.used
        except (ValueError, OSError) as error:
            notes.append(f"{stage}: buckets are not known yet: {error}")
            return ()
    return tuple((box.size, box.batch) for box in boxes)


def _parts(stage: Train) -> list[Part]:
    objective = stage.objective
    if isinstance(objective, Denoising):
        text = accounting.text_encoder(objective.text, text=1).parameters
        return [
            Part(
                stage=stage.name,
                model="transformer",
                parameters=accounting.transformer_parameters(objective.model),
            ),
            Part(stage=stage.name, model="text encoder", parameters=text),
        ]
    if isinstance(objective, Autoencoding):
        size = Size(1, *objective.vae.factor[1:])
        parameters = accounting.autoencoder(objective.vae, size).parameters
        parts = [Part(stage=stage.name, model="autoencoder", parameters=parameters)]
        if objective.discriminator is not None:
            parameters = accounting.discriminator(objective.discriminator, size).parameters
            parts.append(Part(stage=stage.name, model="discriminator", parameters=parameters))
        return parts
    return []


def _cost(stage: Train, size: Size, rows: int) -> BucketCost:
    costs = costs_of(rematerialised(stage, size), size, rows)
    return BucketCost(
        stage=stage.name,
        bucket=str(size),
        batch=rows,
        tokens=costs[0].tokens,
        flops=sum(cost.training_flops for cost in costs),
        bytes=sum(cost.training_bytes(stage.optimizer.moment_bytes) for cost in costs),
    )


def rematerialised(stage: Train, size: Size) -> Any:
    """Returns the objective of a stage as it is in the bucket of `size` pixels."""
    objective: Any = stage.objective
    remat = stage.remat.get(str(size))
    return objective.rematerialised(remat) if remat else objective


def costs_of(objective: Any, size: Size, rows: int) -> list[accounting.Cost]:
    """Returns what each model of an objective costs for `rows` clips of `size` pixels; first that
    of the transformer or the autoencoder."""
    if isinstance(objective, Denoising):
        grid = Grid(factor=objective.factor, patch=Size(*objective.model.patch))
        text = getattr(objective.text, "length", 1)
        positions = objective.text.positions(text)
        latent = grid.latent(size)
        return [
            accounting.transformer(objective.model, latent, text=positions, batch=rows),
            accounting.text_encoder(objective.text, text=text, batch=rows),
        ]
    costs = [accounting.autoencoder(objective.vae, size, batch=rows)]
    if objective.discriminator is not None:
        # It judges each clip once, and what is made of it twice: once for each player.
        judged = accounting.discriminator(objective.discriminator, size, batch=3 * rows)
        costs.append(dataclasses.replace(judged, tokens=0))
    return costs
