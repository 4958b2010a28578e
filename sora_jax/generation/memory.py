"""Whether a clip will fit into memory, told before the work begins."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

import jax

from sora_jax.arrays import Size
from sora_jax.generation.pixels import AT_ONCE, LEAST_TILE
from sora_jax.models.accounting import decoder_bytes, sampling_bytes

log = logging.getLogger("sora_jax")

_SHARE = 4
"""The decoder takes at most one part in four of the memory; larger pictures go in tiles."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """What sampling a clip takes.

    tile  the longest side, in latents, that is decoded as a whole; None where all of it is.
    """

    size: Size
    bytes: int
    tile: int | None

    def __str__(self) -> str:
        tiles = "" if self.tile is None else f", decoded in tiles of {self.tile} latents"
        return f"{self.size} needs about {_gib(self.bytes)}{tiles}"


def needed(pipeline: Any, size: Size, *, estimates: int, batch: int = 1) -> Need:
    """Returns what sampling `batch` clips of `size` pixels together takes.

    `estimates` are those that guidance makes at once. Raises MemoryError, with the estimate, where
    there is not so much.
    """
    there = available_bytes()
    tile = None if there is None else _tile(pipeline.vae, size, batch, there // _SHARE)
    need = sampling_bytes(
        pipeline.denoiser.model,
        pipeline.vae,
        size,
        latents_at_once=AT_ONCE,
        text=pipeline.denoiser.text.positions(pipeline.tokenizer.tokens([""]).tokens.shape[1]),
        batch=batch,
        estimates=estimates,
        tile=tile,
    )
    if there is not None and need > there:
        raise MemoryError(
            f"{size} needs about {_gib(need)}, and this device has {_gib(there)}; ask for fewer "
            f"frames or a smaller height and width{', or guidance 1' if estimates > 1 else ''}"
            f"{', or a smaller batch' if batch > 1 else ''}"
        )
    return Need(size=size, bytes=need, tile=tile)


def _tile(vae: Any, size: Size, batch: int, room: int) -> int | None:
    """The largest tile whose decoding fits into `room`; None where the whole picture does."""

    def fits(tile: int | None) -> bool:
        return decoder_bytes(vae, size, latents_at_once=AT_ONCE, batch=batch, tile=tile) <= room

    if fits(None):
        return None
    sides = vae.latent_size(size)[1:]
    tiles = range(max(sides) - 1, LEAST_TILE, -LEAST_TILE)
    return next((tile for tile in tiles if fits(tile)), LEAST_TILE)


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
    return f"{number / 2**30:.1f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"
