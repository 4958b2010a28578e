"""The training loss of a diffusion model at fixed diffusion times, for each size apart.

A loss averaged over random times says little between runs; on a fixed grid of (size, time), with
the same noise, it follows quality closely (arXiv 2403.03206, section 5.3, and Open-Sora's reports).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.arrays import Batch
from sora_jax.generation.devices import Devices

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)


def grid_losses(
    objective: Any,
    params: Any,
    batches: Iterable[tuple[str, Batch]],
    *,
    sigmas: tuple[float, ...] = SIGMAS,
    seed: int = 0,
) -> dict[tuple[str, float], float]:
    """Returns the loss for each (bucket, sigma), averaged over the rows of all `batches`.

    batches  (bucket, batch) pairs; a batch's noise depends on its number alone.
    """
    devices = Devices.ambient()
    sums: dict[tuple[str, float], list[float]] = {}
    for number, (bucket, batch) in enumerate(batches):
        key = devices.everywhere(jax.random.fold_in(jax.random.key(seed), number))
        rows = devices.dealt(batch)
        for sigma in sigmas:
            time = devices.everywhere(jnp.float32(sigma))
            pair = devices.everywhere(_grid_loss(objective, params, key, rows, time))
            total = sums.setdefault((bucket, sigma), [0.0, 0.0])
            total[0] += float(pair["loss/sum"])
            total[1] += float(pair["loss/count"])
    return {place: total / count for place, (total, count) in sums.items() if count}


def named(losses: Mapping[tuple[str, float], float]) -> dict[str, float]:
    """Returns the grid as metrics, with its mean."""
    metrics = {f"validation/{bucket}/sigma_{sigma}": x for (bucket, sigma), x in losses.items()}
    if metrics:
        metrics["validation/mean"] = sum(losses.values()) / len(losses)
    return metrics


@functools.partial(jax.jit, static_argnums=0)
def _grid_loss(objective: Any, params: Any, key: Any, batch: Batch, sigma: Any) -> Any:
    return objective.grid_loss(params, key, batch, sigma)
