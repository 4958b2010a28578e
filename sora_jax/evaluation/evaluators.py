"""What a run measures and draws at intervals: values that stand in an experiment."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sora_jax.arrays import Size
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.video import contact_sheet, write_video
from sora_jax.evaluation.reconstruction import fidelity, reconstructed
from sora_jax.evaluation.validation import SIGMAS, grid_losses, named
from sora_jax.frozen import AUTOENCODER, read_frozen
from sora_jax.generation.devices import Devices
from sora_jax.generation.pipeline import Pipeline
from sora_jax.parallel import processes

log = logging.getLogger("sora_jax")

SAMPLES = "samples"
"""The folder below a run's in which pictures and clips are written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """Clips for fixed prompts with fixed seeds: `samples/STEP.png` and `samples/STEP_N.mp4`."""

    every: int
    prompts: tuple[str, ...]
    frames: int = 17
    height: int = 64
    width: int = 64
    steps: int = 25
    guidance: float = 3.0

    def __call__(
        self, objective: Any, params: Any, *, data: Any, folder: epath.Path, step: int
    ) -> Mapping[str, float]:
        """Writes the files; measures nothing."""
        vae, vae_params = read_frozen(folder / AUTOENCODER)
        devices = Devices.ambient()
        pipeline = Pipeline(
            denoiser=objective,
            params=params,
            vae=vae,
            vae_params=devices.everywhere(vae_params),
            devices=devices,
            tokenizer=data.tokenizer,
            fps=data.fps,
            source=f"{folder} step {step}",
        )
        size, lacks = Size(self.frames, self.height, self.width), ""
        try:
            pipeline.check(self.prompts, size, guidance=self.guidance)
        except MemoryError as error:
            lacks = str(error)
        # Each process knows its own memory, and all of them sample or none.
        if not processes.agreed(not lacks):
            log.error("no samples of step %d: %s", step, lacks or "another process lacks memory")
            return {}
        clips = pipeline.generate(
            list(self.prompts), **size._asdict(), steps=self.steps, guidance=self.guidance
        )
        if not processes.first():
            return {}
        (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(clips):
            clip.save(folder / SAMPLES / f"{step:07d}_{number}.mp4")
        sheet = contact_sheet([clip.frames for clip in clips], list(self.prompts))
        write_video(folder / SAMPLES / f"{step:07d}.png", sheet[None], fps=1)
        return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """PSNR and SSIM of an autoencoder on the first `clips` windows of `data`, and a picture.

    The picture, `samples/STEP.png`, shows originals and reconstructions in turn.
    """

    every: int
    data: Clips
    clips: int = 8

    def __call__(
        self, objective: Any, params: Any, *, data: Any, folder: epath.Path, step: int
    ) -> Mapping[str, float]:
        """Returns `reconstruction/psnr` and `reconstruction/ssim`, means over the windows."""
        pairs = []
        for frames in self._windows():
            pairs.append((frames, reconstructed(objective.vae, params["vae"], frames)))
        scores = [fidelity(*pair) for pair in pairs]
        sheet = contact_sheet(
            [frames for pair in pairs for frames in pair],
            [f"{kind} {s['psnr']:.1f} dB" for s in scores for kind in ("original", "decoded")],
        )
        if processes.first():
            (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
            write_video(folder / SAMPLES / f"{step:07d}.png", sheet[None], fps=1)
        return {
            f"reconstruction/{name}": float(np.mean([score[name] for score in scores]))
            for name in ("psnr", "ssim")
        }

    def _windows(self) -> list[np.ndarray]:
        """Valid parts of the first rows of the plan."""
        windows: list[np.ndarray] = []
        with dataclasses.replace(self.data, workers=0).open().loader() as loader:
            while len(windows) < self.clips:
                batch = next(loader).batch
                assert batch.video is not None
                for video, (frames, height, width) in zip(batch.video, batch.extent, strict=True):
                    if frames:
                        windows.append(np.asarray(video[:frames, :height, :width]))
        return windows[: self.clips]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """The loss of a diffusion model on a grid of (bucket, sigma), `batches` of each bucket."""

    every: int
    data: LatentClips
    batches: int = 2
    sigmas: tuple[float, ...] = SIGMAS

    def __call__(
        self, objective: Any, params: Any, *, data: Any, folder: epath.Path, step: int
    ) -> Mapping[str, float]:
        """Returns `validation/BUCKET/sigma_S` for each, and `validation/mean`."""
        batches = self.data.open().some_of_each_bucket(self.batches)
        pairs = ((loaded.bucket, loaded.batch) for loaded in batches)
        return named(grid_losses(objective, params, pairs, sigmas=self.sigmas))
