"""Whether a clip will fit into memory, told before the work begins."""

from __future__ import annotations

import os
from typing import Any

import jax

from sora_jax.arrays import Size
from sora_jax.models.accounting import sampling_bytes


def check_memory(
    pipeline: Any, size: Size, *, guided: bool, latents_at_once: int, batch: int = 1
) -> None:
    """Raises MemoryError, with the estimate, if sampling `size` pixels needs more than there is.

    Guidance makes two estimates at once, and so doubles a step. The decoder takes `latents_at_once`
    latent frames, both as many clips as there are in a `batch`.
    """
    needed = sampling_bytes(
        pipeline.denoiser.model,
        pipeline.vae,
        size,
        latents_at_once=latents_at_once,
        text=pipeline.denoiser.text.positions(pipeline.tokenizer.tokens([""]).tokens.shape[1]),
        batch=batch,
        estimates=2 if guided else 1,
    )
    there = available_bytes()
    if there is not None and needed > there:
        raise MemoryError(
            f"{size} needs about {_gib(needed)}, and this device has {_gib(there)}; ask for fewer "
            f"frames or a smaller height and width{', or guidance 1' if guided else ''}"
            f"{', or a smaller batch' if batch > 1 else ''}"
        )


def available_bytes() -> int | None:
    """The memory of this process's first device: the accelerator's, or the machine's on CPU.

    None where the platform does not tell.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    statistics = device.memory_stats() or {}
    return statistics.get("bytes_limit")


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
