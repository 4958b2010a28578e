"""The whole path made tiny: media files, an experiment of three stages, in seconds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket, Grid
from sora_jax.data.captions import Bytes
from sora_jax.data.folder import Folder
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.spans import Spans
from sora_jax.data.video import write_video
from sora_jax.evaluation.evaluators import Reconstruction, Samples, Validation
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.dit import DiT
from sora_jax.models.text import ByteEncoder
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import NoiseField
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.train import Train

TEXT = Bytes(length=16)
ONE = Mesh(devices=1)
FACTOR = Size(1, 8, 8)
"""An autoencoder of one level compiles in seconds."""


def write_media(folder: Path) -> None:
    """Two clips with captions, and a file that is no video."""
    folder.mkdir(parents=True)
    for name, colour in (("red", 0), ("green", 1)):
        frames = np.zeros((6, 16, 32, 3), np.uint8)
        frames[..., colour] = 200
        write_video(folder / f"{name}.mp4", frames, fps=8)
        (folder / f"{name}.json").write_text(json.dumps({"short": name}))
    (folder / "broken.mp4").write_bytes(b"no video")


def stages(media: Path) -> tuple[Train, Encode, Train]:
    """An autoencoder, its latents, and a transformer: two steps each."""
    clips = Clips(
        source=Folder(path=str(media)),
        buckets=(Bucket(frames=3, height=16, width=32, batch=2),),
        grid=Grid(factor=FACTOR, patch=Size(1, 2, 2)),
        tokenizer=TEXT,
        workers=0,
    )
    vae = BlockVAE(width=8, hidden=4, blocks=1, block=FACTOR, latent_channels=4)
    latents = LatentClips(path="{out}/latents", tokenizer=TEXT, workers=0)
    return (
        Train(
            name="autoencoder",
            objective=Autoencoding(vae=vae),
            data=clips,
            evaluators=(Reconstruction(every=2, data=clips, clips=2),),
            steps=2,
            mesh=ONE,
        ),
        Encode(
            name="latents",
            autoencoder="{out}/autoencoder",
            data=dataclasses.replace(clips, spans=Spans()),
        ),
        Train(
            name="transformer",
            objective=Denoising(
                model=DiT(width=16, depth=1, heads=2, mlp=32, latent_channels=4, text_width=8),
                text=ByteEncoder(width=8, depth=1, heads=1, length=16),
                levels=NoiseField(),
                factor=FACTOR,
            ),
            data=latents,
            evaluators=(
                Samples(
                    every=2,
                    prompts=("red",),
                    frames=2,
                    height=16,
                    width=16,
                    steps=1,
                ),
                Validation(every=2, data=latents, batches=2, sigmas=(0.5,)),
            ),
            steps=2,
            mesh=ONE,
        ),
    )
