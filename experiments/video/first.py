"""The first thing to run: a small model of a few real clips, from files to a generated MP4.

    python experiments/video/clips.py data/small --small
    sora-jax train experiments/video/first.py
    sora-jax generate "A man in a bow tie talks in a car." --checkpoint runs/first --out clip.mp4

Seven shots of two to four seconds, read at 8 frames per second in their own aspect ratios. The
autoencoder has half a million parameters and the transformer four; both see too few clips to do
more than learn them by heart, and in a few minutes on two cores they begin to.
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
TEXT = Bytes(length=64)

clips = Clips(
    source=Folder(path="data/small"),
    # One shape: each is a program that takes a minute to compile.
    buckets=Suggested(tokens=256, frames=(9,), pixels=48 * 48, shapes=1),
    tokenizer=TEXT,
    fps=8.0,
)

experiment = (
    Train(
        name="autoencoder",
        objective=Autoencoding(vae=block_vae.PRESETS["tiny"]()),
        data=clips,
        optimizer=AdamW(learning_rate=4e-3, warmup=20),
        steps=300,
        ema=0.99,
        mesh=ONE,
    ),
    Encode(name="latents", autoencoder="{out}/autoencoder", data=clips),
    Train(
        name="transformer",
        objective=Denoising(
            model=dit.PRESETS["4M"](text_width=128),
            text=ByteEncoder(width=128, depth=2, heads=4, length=64),
            # Few tokens show much of a clip through little noise: most is learnt near sigma 1.
            times=LogitNormal(mean=1.0),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT),
        optimizer=AdamW(learning_rate=1e-3, warmup=50),
        steps=1200,
        ema=0.99,
        mesh=ONE,
    ),
)

# The same in a minute: two steps of each.
smoke = tuple(
    dataclasses.replace(stage, steps=2) if isinstance(stage, Train) else stage
    for stage in experiment
)
