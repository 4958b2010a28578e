"""What the noise field's mix costs text to video: a model of the small preset with it and without.

    sora-jax train experiments/worlds/mix.py
    for arm in with without with_again; do
        python experiments/worlds/prompts_table.py runs/mix/$arm --rows "small 17x48x48" \\
            --samples 2000 --out runs/mix/$arm/prompts
        sora-jax evaluate runs/mix/$arm
    done

All are the transformer of `small.py`, trained as in its first stage but on single sprites alone,
which is what the table asks for, and with a rate that falls to nothing at the end. They see the
same clips in the same order for as many steps, latents of the autoencoder that comes with the
package. The one without the mix has one diffusion time for each clip, and nothing given. The one
with it is trained once more, from other random numbers, which tells what differences mean nothing.
"""

import dataclasses
from pathlib import Path
from typing import Any

from sora_jax import config
from sora_jax.arrays import Size
from sora_jax.data.buckets import Bucket
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.objectives.levels import UniformLevels
from sora_jax.training.optimizer import Cosine

SMALL = Path(__file__).with_name("small.py")
SIZE = Size(17, 48, 48)
CLIPS, STEPS = 12_000, 1500


def with_and_without(stages: Any, *, clips: int, steps: int) -> config.Stages:
    """The latents of `small.py`'s first transformer, that transformer, and its twins."""
    named = {stage.name: stage for stage in stages}
    square, first = named["square"], named["first"]
    source = dataclasses.replace(
        square.data.source, clips=clips, worlds=(Sprites(most=1),), shares=None, sizes=(SIZE,)
    )
    square = dataclasses.replace(
        square,
        autoencoder="sora_jax/assets/worlds/autoencoder",
        data=dataclasses.replace(
            square.data, source=source, buckets=(Bucket(**SIZE._asdict(), batch=32),)
        ),
        # They are normalised already.
        measure_steps=None,
    )
    mixed = dataclasses.replace(
        first,
        name="with",
        data=dataclasses.replace(first.data, image_share=None),
        steps=steps,
        save_every=250,
        optimizer=dataclasses.replace(first.optimizer, schedule=Cosine(final=0.02)),
        evaluators=(),
    )
    plain = dataclasses.replace(mixed.objective, levels=UniformLevels())
    return (
        square,
        mixed,
        dataclasses.replace(mixed, name="without", objective=plain),
        dataclasses.replace(mixed, name="with_again", seed=1),
    )


experiment = with_and_without(config.read_experiment(SMALL), clips=CLIPS, steps=STEPS)
smoke = with_and_without(config.read_experiment(SMALL, smoke=True), clips=64, steps=2)
