"""What the noise field's mix costs text to video: the first stage of `small.py`, and without it.

    sora-jax train experiments/worlds/mix.py --out runs/small
    python experiments/worlds/prompts_table.py runs/small/first --rows "small 17x48x48" \\
        --samples 2000
    python experiments/worlds/prompts_table.py runs/small/without --rows "small 17x48x48" \\
        --samples 2000

What `small.py` has trained in the folder is left as it is. The run without the mix sees the same
clips in the same order for as many steps, each with one diffusion time and nothing given.
"""

import dataclasses
from pathlib import Path

from sora_jax import config
from sora_jax.objectives.levels import UniformLevels
from sora_jax.training.train import Train

SMALL = Path(__file__).with_name("small.py")


def with_and_without(stages: config.Stages) -> config.Stages:
    """The stages up to the first transformer, and its twin."""
    end = next(index for index, stage in enumerate(stages) if stage.name == "first")
    first = stages[end]
    assert isinstance(first, Train)
    objective = dataclasses.replace(first.objective, levels=UniformLevels())
    return (*stages[: end + 1], dataclasses.replace(first, name="without", objective=objective))


experiment = with_and_without(config.read_experiment(SMALL))
smoke = with_and_without(config.read_experiment(SMALL, smoke=True))
