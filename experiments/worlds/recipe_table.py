"""A table: what each run of `recipe.py` has learnt.

    python experiments/worlds/recipe_table.py runs/recipe

The velocity-weighted loss on held-out latents at fixed diffusion times, whatever a run was trained
with; and at the highest, where there is little but the text to go by, also with the captions of
other clips: a run that reads does worse then.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

import sora_jax
from sora_jax import config
from sora_jax.arrays import Batch, Text
from sora_jax.data.latents import LatentClips
from sora_jax.diffusion.prediction import VelocityWeighted
from sora_jax.evaluation.validation import grid_losses
from sora_jax.training.train import Train

SIGMAS = (0.3, 0.5, 0.7, 0.9, 0.97)
STAGES = config.read_experiment(Path(__file__).with_name("recipe.py"))
NAMES = [stage.name for stage in STAGES if isinstance(stage, Train)]


def swapped(batch: Batch) -> Batch:
    """With the captions of other clips."""
    text = Text(
        tokens=np.roll(batch.text.tokens, 1, axis=0), length=np.roll(batch.text.length, 1, axis=0)
    )
    return dataclasses.replace(batch, text=text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    given = parser.parse_args()
    heads = [*(f"t = {sigma}" for sigma in SIGMAS), f"t = {SIGMAS[-1]}, another's caption"]
    lines = [f"| run | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in NAMES:
        pipeline = sora_jax.load(f"{given.run}/{name}")
        data = LatentClips(
            path=f"{given.run}/held_out", tokenizer=pipeline.tokenizer, descriptive_share=0.0
        )
        batches = [(each.bucket, each.batch) for each in data.open().some_of_each_bucket(16)]
        objective = dataclasses.replace(pipeline.denoiser, weighting=VelocityWeighted(floor=0.25))
        own = grid_losses(objective, pipeline.params, batches, sigmas=SIGMAS)
        others = [(bucket, swapped(batch)) for bucket, batch in batches]
        of_others = grid_losses(objective, pipeline.params, others, sigmas=SIGMAS[-1:])
        values = [*own.values(), *of_others.values()]
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |")
        print(lines[-1], flush=True)
    (Path(given.run) / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
