"""The model that comes with the package: the nine procedural worlds on two CPU cores.

    sora-jax train experiments/worlds/small.py

Images and clips of 9 to 33 frames (33 at 64 x 64 alone), wide, square and tall, 48 to 128 pixels a
side; but first it learns from small squares alone, of which two cores see many. Ten of eighteen
clips are sprites, two thirds of these single ones, whose captions are the finest test of a text
encoder; the other worlds share the rest alike. The folder of the last stage comes with the package.
"""

import dataclasses

from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.spans import Spans
from sora_jax.data.worlds.source import ALL, Worlds
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.diffusion.prediction import CleanDetail, VelocityWeighted
from sora_jax.diffusion.times import LogitNormal
from sora_jax.evaluation.evaluators import Reconstruction, Samples, Validation
from sora_jax.models import block_vae, dit
from sora_jax.models.embeddings import Rotary
from sora_jax.models.text import WordEncoder
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import NoiseField
from sora_jax.parallel.mesh import Mesh
from sora_jax.stages import Freeze
from sora_jax.training.encoding import Encode
from sora_jax.training.optimizer import AdamW, Constant, Cosine
from sora_jax.training.train import Train

ONE = Mesh(devices=1)
CHANNELS = 32
TURNS = Rotary(fastest=1.57, base=10.0)
# Half of occluder's descriptive captions lose their end in training, a sixth of those of cuts, and
# hardly any other: each place costs.
WHOLE, TEXT = Bytes(length=400), Bytes(length=320)
# Single sprites besides: what a caption says of them can be learnt from each of its words.
WORLDS = (Sprites(most=1), *ALL)
SHARES = tuple({"sprites": 5.0}.get(world.name, 1.0) for world in WORLDS)


def boxes(batches: dict[Size, int]) -> tuple[Bucket, ...]:
    return tuple(Bucket(**box._asdict(), batch=batch) for box, batch in batches.items())


# The autoencoder sees worlds alike, and few shapes: it works on what is near.
CODED = {
    Size(1, 96, 96): 16,
    Size(9, 64, 64): 16,
    Size(9, 64, 112): 9,
    Size(9, 112, 64): 9,
    Size(17, 48, 48): 16,
}


def coded(clips: int, seed: int) -> Clips:
    """What the autoencoder learns from."""
    return Clips(
        source=Worlds(clips=clips, sizes=tuple(CODED), seed=seed),
        buckets=boxes(CODED),
        keep_megabytes=0,
    )


# Boxes of the transformer, with batches of about 5,120 tokens; and the sizes in them.
BOXES = {
    Size(1, 80, 128): 32,
    Size(1, 128, 80): 32,
    Size(1, 128, 128): 20,
    Size(17, 48, 48): 28,
    Size(17, 64, 64): 16,
    Size(17, 64, 112): 9,
    Size(17, 112, 64): 9,
    Size(9, 96, 96): 12,
    Size(9, 80, 128): 10,
    Size(9, 128, 80): 10,
    Size(33, 64, 64): 9,
}
SIZES = (
    Size(1, 72, 128),
    Size(1, 128, 72),
    Size(1, 96, 96),
    Size(1, 128, 128),
    Size(17, 48, 48),
    *(Size(17, 64, 64),) * 5,
    Size(17, 56, 64),
    Size(17, 64, 56),
    Size(17, 64, 112),
    Size(17, 64, 88),
    Size(17, 112, 64),
    Size(17, 88, 64),
    Size(9, 96, 96),
    Size(9, 72, 128),
    Size(9, 128, 72),
    Size(33, 64, 64),
)


def shown(sizes: tuple[Size, ...], clips: int, seed: int, batches: dict[Size, int]) -> Clips:
    """What the transformer learns from: clips of `sizes` in boxes named with their batches."""
    return Clips(
        source=Worlds(clips=clips, worlds=WORLDS, shares=SHARES, sizes=sizes, seed=seed),
        buckets=boxes(batches),
        tokenizer=WHOLE,
        keep_megabytes=0,
        spans=Spans(),
    )


# What it learns first from: small squares, of which two cores see many.
SQUARE = {Size(1, 48, 48): 160, Size(17, 48, 48): 32}
SQUARES = (Size(1, 48, 48), *(Size(17, 48, 48),) * 3)


def denoising() -> Denoising:
    """The transformer and how it learns: the noise field's mix, most of it at high noise, where it
    is decided what a clip shows. A token is one latent: objects are as small as two by two."""
    return Denoising(
        model=dit.PRESETS["2M"](
            latent_channels=CHANNELS, text_width=128, patch=(1, 1, 1), rotary=TURNS, near=4.0
        ),
        text=WordEncoder(width=128, depth=2, heads=4, length=WHOLE.length),
        prediction=CleanDetail(detail=0.1),
        weighting=VelocityWeighted(floor=0.25),
        times=LogitNormal(mean=0.8, std=1.4),
        levels=NoiseField(),
    )


PROMPTS = (
    "a red circle moves left over a green field",
    "a blue square moves up over white snow",
    "a yellow triangle and a green circle on the night sky",
    "a white triangle stands still on a grey road",
)

experiment = (
    Train(
        name="autoencoder",
        objective=Autoencoding(
            vae=block_vae.PRESETS["small"](latent_channels=CHANNELS, deblock=32.0),
            squared=4.0,
            divergence=1e-5,
        ),
        data=coded(80_000, 0),
        optimizer=AdamW(learning_rate=2e-3, warmup=100),
        steps=7000,
        ema=0.998,
        mesh=ONE,
        evaluators=(Reconstruction(every=1000, data=coded(200, 1), clips=64),),
    ),
    Encode(
        name="square",
        autoencoder="{out}/autoencoder",
        data=shown(SQUARES, 120_000, 4, SQUARE),
        measure_steps=100,
    ),
    Train(
        name="first",
        objective=denoising(),
        # Short captions alone, whose every word counts, and which cost less.
        data=LatentClips(
            path="{out}/square",
            tokenizer=Bytes(length=160),
            descriptive_share=0.0,
            misspelt_share=0.05,
            image_share=0.3,
        ),
        optimizer=AdamW(learning_rate=1e-3, warmup=200, muon=3.0, schedule=Constant()),
        steps=10_000,
        save_every=1000,
        ema=0.998,
        mesh=ONE,
        evaluators=(Samples(every=5000, prompts=PROMPTS, height=48, width=48),),
    ),
    Encode(
        name="latents",
        autoencoder="{out}/autoencoder",
        data=shown(SIZES, 60_000, 2, BOXES),
        measure_steps=100,
    ),
    Encode(
        name="held_out", autoencoder="{out}/latents/autoencoder", data=shown(SIZES, 1000, 3, BOXES)
    ),
    Train(
        name="transformer",
        objective=denoising(),
        start="{out}/first",
        data=LatentClips(path="{out}/latents", tokenizer=TEXT, misspelt_share=0.15),
        optimizer=AdamW(learning_rate=1e-3, warmup=200, muon=3.0, schedule=Cosine(final=0.02)),
        steps=14_000,
        ema=0.999,
        mesh=ONE,
        evaluators=(
            Validation(every=2000, data=LatentClips(path="{out}/held_out", tokenizer=TEXT)),
            Samples(every=2000, prompts=PROMPTS),
        ),
    ),
    Freeze(
        name="worlds",
        run="{out}/transformer",
        about=(
            "short clips and images, 48 to 128 pixels a side, of coloured shapes over plain"
            ' grounds ("a red circle moves left over a green field"), and of balls, a shape behind'
            " a bar, a camera that moves around a box, shots of one character, a brush, a mouth"
            " that bites, something that shatters, and a grid game"
        ),
    ),
)

# The same in two minutes: two steps of each, on few small squares.
FEW = {Size(1, 48, 48): 8, Size(17, 48, 48): 8}
smoke = tuple(
    dataclasses.replace(stage, steps=2, evaluators=())
    if isinstance(stage, Train)
    else dataclasses.replace(stage, data=shown(tuple(FEW), 64, 2, FEW))
    if isinstance(stage, Encode)
    else stage
    for stage in experiment
)
