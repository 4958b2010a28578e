"""How a small transformer learns fastest: what is predicted, how errors weigh, which optimizer.

    sora-jax train experiments/worlds/recipe.py
    python experiments/worlds/recipe_table.py runs/recipe

Each run changes one thing, and sees the same 500 batches of 32 clips of three worlds, at a constant
rate, so that none is nearer to its end than another. The latents are of the autoencoder that
`small.py` has trained in runs/small.
"""

import dataclasses

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.worlds.balls import Balls
from sora_jax.data.worlds.painter import Painter
from sora_jax.data.worlds.source import Worlds
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.diffusion.prediction import Clean, Prediction, Velocity, VelocityWeighted
from sora_jax.diffusion.times import LogitNormal
from sora_jax.models import dit
from sora_jax.models.embeddings import Rotary
from sora_jax.models.text import WordEncoder
from sora_jax.objectives.denoising import Denoising
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.optimizer import AdamW, Constant
from sora_jax.training.train import Train

TURNS = Rotary(fastest=1.57, base=10.0)
TEXT = Bytes(length=256)
SIZE = Size(17, 48, 48)
BATCH, STEPS = 32, 500
CLEAN = Clean()
BEST = AdamW(learning_rate=1e-3, warmup=100, schedule=Constant(), muon=3.0)
ADAMW = dataclasses.replace(BEST, muon=None)


def clips(count: int, seed: int) -> Clips:
    return Clips(
        source=Worlds(
            clips=count, worlds=(Sprites(most=1), Balls(), Painter()), sizes=(SIZE,), seed=seed
        ),
        buckets=(Bucket(**SIZE._asdict(), batch=BATCH),),
        tokenizer=TEXT,
        keep_megabytes=0,
    )


def run(
    name: str,
    *,
    prediction: Prediction = CLEAN,
    floor: float = 0.25,
    mean: float = 1.0,
    optimizer: AdamW = BEST,
) -> Train:
    return Train(
        name=name,
        objective=Denoising(
            model=dit.PRESETS["4M"](latent_channels=32, text_width=128, rotary=TURNS, near=4.0),
            text=WordEncoder(width=128, depth=2, heads=4, length=TEXT.length),
            prediction=prediction,
            weighting=VelocityWeighted(floor=floor),
            times=LogitNormal(mean=mean),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT, descriptive_share=0.0),
        optimizer=optimizer,
        steps=STEPS,
        ema=0.98,
        mesh=Mesh(devices=1),
    )


experiment = (
    Encode(
        name="latents",
        autoencoder="runs/small/autoencoder",
        data=clips(BATCH * STEPS, 4),
        measure_steps=100,
    ),
    Encode(name="held_out", autoencoder="{out}/latents/autoencoder", data=clips(512, 5)),
    run("shipped"),
    run("adamw", optimizer=ADAMW),
    run("adamw_three_times", optimizer=dataclasses.replace(ADAMW, learning_rate=3e-3)),
    run("muon_alike", optimizer=dataclasses.replace(BEST, muon=1.0)),
    run("muon_eight_times", optimizer=dataclasses.replace(BEST, muon=8.0)),
    run("velocity", prediction=Velocity()),
    run("low_floor", floor=0.05),
    run("unshifted_times", mean=0.0),
)

smoke = tuple(
    dataclasses.replace(stage, steps=2)
    if isinstance(stage, Train)
    else dataclasses.replace(stage, data=clips(BATCH, 4))
    for stage in experiment
)
