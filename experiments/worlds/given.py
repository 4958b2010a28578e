"""How a model is best told of given frames: the noise field, concatenation, or both.

    sora-jax train experiments/worlds/given.py
    python experiments/worlds/given_table.py runs/given

Three transformers of two million parameters, equal but for that, see the same clips of three worlds
in the same order for as many steps, with the autoencoder that comes with the package; and the first
once more, from other random numbers, which tells what differences mean nothing. The table says what
each is worth as text to video and with frames given.
"""

import dataclasses

from sora_jax.arrays import Size
from sora_jax.baselines.concatenation import Concatenated, ConcatenatedField
from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.data.spans import Spans
from sora_jax.data.worlds.balls import Balls
from sora_jax.data.worlds.painter import Painter
from sora_jax.data.worlds.source import Worlds
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.diffusion.prediction import CleanDetail, VelocityWeighted
from sora_jax.diffusion.times import LogitNormal
from sora_jax.evaluation.evaluators import Validation
from sora_jax.models import dit
from sora_jax.models.embeddings import Rotary
from sora_jax.models.text import WordEncoder
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import NoiseField
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.optimizer import AdamW
from sora_jax.training.train import Train

ONE = Mesh(devices=1)
CHANNELS = 32
SIZE = Size(17, 48, 48)
TURNS = Rotary(fastest=1.57, base=10.0)
TEXT = Bytes(length=256)
STEPS = 1500

ARMS: dict[str, tuple[type[Denoising], int]] = {
    "field": (Denoising, CHANNELS),
    "concatenated": (Concatenated, 2 * CHANNELS + 1),
    "both": (ConcatenatedField, 2 * CHANNELS + 1),
}
"""By name: the objective, and the channels that its transformer sees."""


def clips(count: int, seed: int) -> Clips:
    """Clips of three worlds: motion that is asked for, bounces, strokes that stay."""
    return Clips(
        source=Worlds(
            clips=count,
            worlds=(Sprites(most=1), Balls(), Painter()),
            sizes=(SIZE,),
            seed=seed,
        ),
        buckets=(Bucket(**SIZE._asdict(), batch=32),),
        tokenizer=TEXT,
        keep_megabytes=0,
        spans=Spans(),
    )


def arm(name: str) -> Train:
    """The training of one arm."""
    kind, channels = ARMS[name]
    return Train(
        name=name,
        objective=kind(
            model=dit.PRESETS["2M"](
                latent_channels=channels,
                text_width=128,
                patch=(1, 1, 1),
                rotary=TURNS,
                near=4.0,
            ),
            text=WordEncoder(width=128, depth=2, heads=4, length=TEXT.length),
            prediction=CleanDetail(detail=0.1),
            weighting=VelocityWeighted(floor=0.25),
            times=LogitNormal(mean=0.8, std=1.4),
            levels=NoiseField(),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT, descriptive_share=0.0),
        optimizer=AdamW(learning_rate=1e-3, warmup=100, muon=3.0),
        steps=STEPS,
        ema=0.999,
        mesh=ONE,
        evaluators=(
            Validation(
                every=STEPS // 4,
                data=LatentClips(path="{out}/held_out", tokenizer=TEXT, descriptive_share=0.0),
                batches=16,
            ),
        ),
    )


experiment = (
    Encode(
        name="latents",
        autoencoder="sora_jax/assets/worlds/autoencoder",
        data=clips(40_000, 4),
    ),
    Encode(name="held_out", autoencoder="{out}/latents/autoencoder", data=clips(512, 5)),
    *(arm(name) for name in ARMS),
    dataclasses.replace(arm("field"), name="field_again", seed=1),
)

smoke = tuple(
    dataclasses.replace(stage, steps=2, evaluators=())
    if isinstance(stage, Train)
    else dataclasses.replace(stage, data=clips(32, 4))
    for stage in experiment
)
