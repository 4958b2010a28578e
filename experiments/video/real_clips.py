"""Twenty-six real clips, learnt in twenty minutes on two cores.

    python experiments/video/clips.py data/real
    sora-jax train experiments/video/real_clips.py
    python experiments/video/real_clips_table.py runs/real_clips data/real

The clips come from six sources and keep their own aspect ratios, landscape and portrait. The
autoencoder is measured on frames and on a clip that it never saw, the transformer on whether it
tells the clips apart by their captions; `real_clips_table.py` makes the table.
"""

import dataclasses

from sora_jax.data.captions import Bytes
from sora_jax.data.folder import Folder
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.suggest import Suggested
from sora_jax.diffusion.times import LogitNormal
from sora_jax.models import block_vae, dit
from sora_jax.models.text import ByteEncoder
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.optimizer import AdamW
from sora_jax.training.train import Train

# So little work is not worth sharing out.
ONE = Mesh(devices=1)
TEXT = Bytes(length=256)
SOURCE = Folder(path="data/real/train")

experiment = (
    Train(
        name="autoencoder",
        objective=Autoencoding(vae=block_vae.PRESETS["tiny"](), divergence=1e-5),
        # At their own rates, which gives the most windows that differ.
        data=Clips(
            source=SOURCE,
            buckets=Suggested(tokens=448, frames=(9,), pixels=64 * 64, shapes=3),
            tokenizer=TEXT,
        ),
        optimizer=AdamW(learning_rate=2e-3, warmup=50),
        steps=900,
        ema=0.995,
        mesh=ONE,
        save_every=250,
    ),
    Encode(
        name="latents",
        autoencoder="{out}/autoencoder",
        data=Clips(
            source=SOURCE,
            buckets=Suggested(tokens=768, frames=(9,), pixels=64 * 64, shapes=3),
            tokenizer=TEXT,
            fps=8.0,
        ),
    ),
    Train(
        name="transformer",
        objective=Denoising(
            model=dit.PRESETS["4M"](text_width=128),
            text=ByteEncoder(width=128, depth=2, heads=4, length=256),
            times=LogitNormal(mean=1.0),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT),
        optimizer=AdamW(learning_rate=1e-3, warmup=100),
        steps=3000,
        ema=0.995,
        mesh=ONE,
    ),
)

# The same in a few minutes: two steps of each.
smoke = tuple(
    dataclasses.replace(stage, steps=2) if isinstance(stage, Train) else stage
    for stage in experiment
)
