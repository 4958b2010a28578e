"""Models that are trained no further: a folder with `weights.safetensors` and `model.json`.

The JSON is the model as a value, and is written last, so that a folder that has it is whole. Local
paths and gs:// alike.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath
from flax import traverse_util

from sora_jax import config
from sora_jax.checkpoint import CheckpointError, located

AUTOENCODER = "autoencoder"
"""The folder of the frozen autoencoder below that of a transformer or of latents."""
MODEL = "model.json"
WEIGHTS = "weights.safetensors"


def write_frozen(folder: epath.PathLike, model: Any, params: Any) -> None:
    """Writes `model` (a value that `config.to_json` takes) and its parameters into `folder`."""
    path = located(folder)
    path.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    (path / WEIGHTS).write_bytes(safetensors.numpy.save(arrays))
    (path / MODEL).write_text(json.dumps(config.to_json(model), indent=1))


def read_frozen(folder: epath.PathLike) -> tuple[Any, Any]:
    """Returns (model, parameters) that `write_frozen` wrote.

    Raises CheckpointError where the folder is incomplete or damaged.
    """
    path = located(folder)
    try:
        model = config.from_json(json.loads((path / MODEL).read_text()))
        flat = safetensors.numpy.load((path / WEIGHTS).read_bytes())
    except config.ConfigError as error:
        raise CheckpointError(f"{path / MODEL}: {error}") from error
    except Exception as error:
        raise CheckpointError(
            f"{path} holds no whole frozen model ({MODEL} and {WEIGHTS}): {error}"
        ) from error
    return model, traverse_util.unflatten_dict(flat, sep="/")


def copy_frozen(source: epath.PathLike, target: epath.PathLike, *, replace: bool) -> None:
    """Copies a frozen model, the JSON last. One that `target` holds may be replaced or must be it.

    Raises CheckpointError where there is none, or another that may not be replaced.
    """
    source, target = located(source), located(target)
    if not (source / MODEL).exists():
        raise CheckpointError(f"{source} holds no frozen model ({MODEL} is missing)")
    if not replace and (target / MODEL).exists():
        for name in (WEIGHTS, MODEL):
            if (target / name).read_bytes() != (source / name).read_bytes():
                raise CheckpointError(
                    f"{target} is another model than {source}, and what was trained in its folder "
                    "belongs to it; give another --out, or restore the one that it was made with"
                )
        return
    target.mkdir(parents=True, exist_ok=True)
    (target / MODEL).unlink(missing_ok=True)
    for name in (WEIGHTS, MODEL):
        (target / name).write_bytes((source / name).read_bytes())
