"""What makes a small transformer learn: its tokens, what it is told and predicts, how it steps.

    sora-jax train experiments/worlds/recipe.py
    python experiments/worlds/recipe_table.py runs/recipe

Each run changes one thing of a base, which is the first stage of the shipped model on fewer worlds
and with one diffusion time for all frames; and sees the same 400 batches of 32 clips, at a constant
rate, so that none is nearer to its end than another. (With tokens of two by two latents a step
costs half as much or less: that run has a wider model and sees twice as many.) The base runs twice,
from other random numbers, which tells what differences mean nothing. The latents are of the
autoencoder that comes with the package.
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
from sora_jax.diffusion.prediction import (
    Clean,
    CleanDetail,
    Prediction,
    Velocity,
    VelocityWeighted,
)
from sora_jax.diffusion.times import LogitNormal
from sora_jax.models import dit
from sora_jax.models.embeddings import Rotary
from sora_jax.models.text import ByteEncoder, WordEncoder
from sora_jax.objectives.denoising import Denoising
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.optimizer import AdamW, Constant
from sora_jax.training.train import Train

TURNS = Rotary(fastest=1.57, base=10.0)
# Short captions alone, none of which is as long.
TEXT = Bytes(length=128)
SIZE = Size(17, 48, 48)
BATCH, STEPS = 32, 400
MODEL = dit.PRESETS["2M"](
    latent_channels=32, text_width=128, patch=(1, 1, 1), rotary=TURNS, near=4.0
)
COARSE = dit.PRESETS["3M"](latent_channels=32, text_width=128, rotary=TURNS, near=4.0)
WORDS = WordEncoder(width=128, depth=2, heads=4, length=TEXT.length)
BYTES = ByteEncoder(width=128, depth=2, heads=4, length=TEXT.length)
DETAIL = CleanDetail(detail=0.1)
BEST = AdamW(learning_rate=1e-3, warmup=100, schedule=Constant(), muon=3.0)
TIMES = LogitNormal(mean=0.8, std=1.4)


def clips(count: int, seed: int) -> Clips:
    return Clips(
        source=Worlds(
            clips=count, worlds=(Sprites(most=1), Balls(), Painter()), sizes=(SIZE,), seed=seed
        ),
        buckets=(Bucket(**SIZE._asdict(), batch=BATCH),),
        keep_megabytes=0,
    )


def run(
    name: str,
    *,
    model: dit.DiT = MODEL,
    text: ByteEncoder | WordEncoder = WORDS,
    prediction: Prediction = DETAIL,
    times: LogitNormal = TIMES,
    optimizer: AdamW = BEST,
    steps: int = STEPS,
) -> Train:
    return Train(
        name=name,
        objective=Denoising(
            model=model,
            text=text,
            prediction=prediction,
            weighting=VelocityWeighted(floor=0.25),
            times=times,
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT, descriptive_share=0.0),
        optimizer=optimizer,
        steps=steps,
        ema=0.98,
        mesh=Mesh(devices=1),
    )


experiment = (
    Encode(
        name="latents",
        autoencoder="sora_jax/assets/worlds/autoencoder",
        data=clips(2 * BATCH * STEPS, 4),
    ),
    Encode(name="held_out", autoencoder="{out}/latents/autoencoder", data=clips(512, 5)),
    run("shipped"),
    dataclasses.replace(run("shipped_again"), seed=1),
    run("tokens_of_two_by_two", model=COARSE, steps=2 * STEPS),
    run("no_places", model=MODEL.clone(places=0)),
    run("no_pooled_text", model=MODEL.clone(pooled=False)),
    run("nothing_nearer", model=MODEL.clone(near=0.0)),
    run("bytes_for_words", text=BYTES),
    run("velocity", prediction=Velocity()),
    run("clean", prediction=Clean()),
    run("unshifted_times", times=LogitNormal()),
    run("adamw", optimizer=dataclasses.replace(BEST, muon=None)),
    run("muon_at_once_the_rate", optimizer=dataclasses.replace(BEST, muon=1.0)),
)

smoke = tuple(
    dataclasses.replace(stage, steps=2)
    if isinstance(stage, Train)
    else dataclasses.replace(stage, data=clips(BATCH, 4))
    for stage in experiment
)
