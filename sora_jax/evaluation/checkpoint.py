"""`sora-jax evaluate`: what one checkpoint is worth, on given files or on its own data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from rich.table import Table

from sora_jax import checkpoint
from sora_jax.arrays import Batch, Size, Text
from sora_jax.data.framing import fitted, resized
from sora_jax.data.sidecars import beside, listed
from sora_jax.data.video import probe
from sora_jax.evaluation.capabilities import measure
from sora_jax.evaluation.frames import WINDOW
from sora_jax.evaluation.reconstruction import encoded, fidelity, reconstructed, whole_frames
from sora_jax.evaluation.suites import SUITES
from sora_jax.evaluation.table import Capabilities
from sora_jax.evaluation.validation import SIGMAS, grid_losses
from sora_jax.frozen import AUTOENCODER, MODEL, read_frozen
from sora_jax.generation.inputs import read_frames
from sora_jax.generation.loading import find, load
from sora_jax.generation.pipeline import Pipeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured.

    files   for each file its size and the autoencoder's `psnr` (dB) and `ssim`.
    losses  the diffusion loss for each (bucket, sigma); empty for an autoencoder alone.
    losses_on  what the losses were taken over.
    """

    checkpoint: str
    files: dict[str, dict[str, Any]]
    losses: dict[tuple[str, float], float]
    losses_on: str

    def tables(self, width: int) -> list[Table]:
        """As tables to print, of any width."""
        del width
        return [
            table
            for table, rows in ((self._file_table(), self.files), (self._loss_table(), self.losses))
            if rows
        ]

    def to_json(self) -> str:
        """As JSON text."""
        fields = dataclasses.asdict(self)
        fields["losses"] = [
            {"bucket": bucket, "sigma": sigma, "loss": loss}
            for (bucket, sigma), loss in self.losses.items()
        ]
        return json.dumps(fields, indent=1)

    def _file_table(self) -> Table:
        table = Table("file", "size", "PSNR, dB", "SSIM", title="reconstruction")
        for name, row in self.files.items():
            table.add_row(name, row["size"], f"{row['psnr']:.2f}", f"{row['ssim']:.4f}")
        scores = list(self.files.values())
        if len(scores) > 1:
            mean = {key: np.mean([row[key] for row in scores]) for key in ("psnr", "ssim")}
            table.add_section()
            table.add_row("mean", "", f"{mean['psnr']:.2f}", f"{mean['ssim']:.4f}")
        return table

    def _loss_table(self) -> Table:
        sigmas = sorted({sigma for _, sigma in self.losses})
        table = Table("bucket", *(f"sigma {s:g}" for s in sigmas), title=f"loss {self.losses_on}")
        for bucket in dict.fromkeys(bucket for bucket, _ in self.losses):
            row = (self.losses.get((bucket, sigma)) for sigma in sigmas)
            table.add_row(bucket, *("" if loss is None else f"{loss:.4f}" for loss in row))
        return table


def evaluate_checkpoint(
    folder: str, files: Sequence[str] = (), *, frames: int = 17, longest: int | None = None
) -> Evaluation:
    """Measures a run of an autoencoder or of a transformer (with the autoencoder it goes with), or
    a frozen generator.

    files    videos and images; at the rate of its training the first `frames` of each (down to
             1 + 4k) are taken, reduced so that the longer side is at most `longest` pixels.
             Captions beside them condition the loss. Without files the loss is over the run's own
             training data.

    Raises CheckpointError for what is no such run, VideoError for a file that cannot be read, and
    ValueError if there is nothing to measure.
    """
    path = checkpoint.located(folder)
    if path.is_file():
        raise ValueError(f"{path} is a file; name a CHECKPOINT before it")
    if (path / MODEL).exists():
        if not files:
            raise ValueError(f"{path} is frozen, without data of its own: name FILES, or --suite")
        return _of_generator(path, load(path), files, frames=frames, longest=longest)
    run = find(folder)
    record = checkpoint.read_experiment(checkpoint.newest(run))
    if not hasattr(record.objective, "grid_loss"):
        if not files:
            raise ValueError(f"{run} is an autoencoder: name the FILES to reconstruct")
        vae, params = _autoencoder(run, record)
        fps = float(checkpoint.read_record(checkpoint.newest(run), "data")["fps"])
        clips = _clips(files, frames, longest, vae.factor, fps)
        return Evaluation(
            checkpoint=str(run), files=_fidelities(vae, params, clips), losses={}, losses_on=""
        )
    pipeline = load(folder)
    if files:
        return _of_generator(run, pipeline, files, frames=frames, longest=longest)
    batches = _own_batches(record.data)
    losses = grid_losses(pipeline.denoiser, pipeline.params, batches, sigmas=SIGMAS)
    where = "on the run's own training data"
    return Evaluation(checkpoint=str(run), files={}, losses=losses, losses_on=where)


def _of_generator(
    path: Any, pipeline: Pipeline, files: Sequence[str], *, frames: int, longest: int | None
) -> Evaluation:
    """Of files: what the autoencoder makes of them, and the losses on them."""
    clips = _clips(files, frames, longest, pipeline.vae.factor, pipeline.fps)
    rows = _fidelities(pipeline.vae, pipeline.vae_params, clips)
    batches = [_batch(pipeline, name, clip) for name, clip in clips.items()]
    losses = grid_losses(pipeline.denoiser, pipeline.params, batches, sigmas=SIGMAS)
    return Evaluation(checkpoint=str(path), files=rows, losses=losses, losses_on="on these files")


def evaluate_suites(folder: str | None, names: Sequence[str], **settings: Any) -> Capabilities:
    """Returns what a generator can do, by the suites of these names (`all` for every one).

    `folder` is as `generation.loading.load` takes it.

    `settings` are those of `capabilities.measure`. Raises ValueError for an unknown name.
    """
    for name in names:
        if name != "all" and name not in SUITES:
            raise ValueError(f"there is no suite {name!r}; there are all, {', '.join(SUITES)}")
    chosen = SUITES if "all" in names else dict.fromkeys(names)
    return measure(load(folder), [SUITES[name] for name in chosen], **settings)


def _autoencoder(run: Any, record: Any) -> tuple[Any, Any]:
    if (run / AUTOENCODER).exists():
        return read_frozen(run / AUTOENCODER)
    # The parameters of an autoencoder depend on no batch: any will do.
    still = np.zeros((1, 1, *record.objective.vae.factor[1:], 3), np.uint8)
    batch = Batch(
        video=still,
        latent=None,
        extent=np.array([still.shape[1:4]], np.int32),
        text=Text(tokens=np.zeros((1, 1), np.int32), length=np.ones(1, np.int32)),
        weight=np.ones(1, np.float32),
    )
    abstract = checkpoint.abstract(record.objective, batch)
    params = checkpoint.read_params(checkpoint.newest(run), abstract)
    if bad := checkpoint.nonfinite(params):
        raise checkpoint.CheckpointError(f"{run}: not finite: {', '.join(bad[:5])}")
    return record.objective.frozen(params)


def _clips(
    files: Sequence[str], frames: int, longest: int | None, factor: Size, fps: float
) -> dict[str, np.ndarray]:
    if frames < 1 or (longest is not None and longest < WINDOW):
        raise ValueError(
            f"frames is {frames} and longest {longest}: give a frame at least, and the {WINDOW} "
            "pixels of the window of SSIM"
        )
    clips = {}
    for name in files:
        if epath.Path(name).is_dir():
            raise ValueError(f"{name} is a folder; name the files in it, as with {name}/*.mp4")
        # Of a run of stills alone, which has no rate, at the file's own.
        rate = fps or probe(name).fps or 1.0
        clip = whole_frames(read_frames(name, fps=rate, what="file", count=frames), factor)
        if longest is not None:
            size = fitted(*clip.shape[1:3], box=Size(1, longest, longest))
            clip = resized(clip, *size)
        clips[name] = clip
    return clips


def _fidelities(vae: Any, params: Any, clips: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    return {
        name: {"size": str(Size(*clip.shape[:3]))}
        | fidelity(clip, reconstructed(vae, params, clip))
        for name, clip in clips.items()
    }


def _batch(pipeline: Pipeline, name: str, clip: np.ndarray) -> tuple[str, Batch]:
    path = epath.Path(name)
    siblings = frozenset(sibling.name for sibling in path.parent.iterdir())
    listing, _ = listed(path.parent, siblings)
    captions, _ = beside(path.parent, path.name, siblings, listing)
    size = Size(*clip.shape[:3])
    batch = Batch(
        video=None,
        latent=encoded(pipeline.vae, pipeline.vae_params, clip),
        extent=np.array([size], np.int32),
        text=pipeline.tokenizer.tokens([captions[0].text if captions else ""]),
        weight=np.ones(1, np.float32),
    )
    return str(size), batch


def _own_batches(data: Any) -> Iterator[tuple[str, Batch]]:
    """Up to eight batches of each bucket."""
    for each in data.open().some_of_each_bucket(8):
        yield each.bucket, each.batch
