"""Whether a clip will fit into memory, told before the work begins."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import jax

from sora_jax.arrays import Size
from sora_jax.generation.pixels import AT_ONCE, LEAST_TILE
from sora_jax.models.accounting import decoder_bytes, transformer

log = logging.getLogger("sora_jax")

_SHARE = 4
"""The decoder takes at most one part in four of the memory; larger pictures go in tiles."""

_RUNS_WITH = {"cpu": 2.0}
"""How many times what XLA plans for a decoder it takes while it runs, as measured
(experiments/benchmarks/sizes.py); elsewhere as much as it plans."""

_PROGRAMS = 80 * 2**20
"""Bytes that compiling and the programs themselves take, as measured."""


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
    """Returns what sampling `batch` clips of `size` pixels together takes of a device, with what is
    in use there already. Devices that share the work take equal parts of it.

    `estimates` are those that guidance makes at once. Raises MemoryError, with the estimate, where
    there is not so much.
    """
    there = available_bytes()
    vae, denoiser = pipeline.vae, pipeline.denoiser
    latent = vae.latent_size(size)
    shares = pipeline.devices.sharing_pictures(
        latent._replace(frames=min(latent.frames, AT_ONCE)), begins=latent.frames <= AT_ONCE
    )
    tile = None if there is None else _tile(vae, size, batch, shares * there // _SHARE)
    text = denoiser.text.positions(pipeline.tokenizer.tokens([""]).tokens.shape[1])
    step = transformer(
        denoiser.model, latent, text=text, batch=batch * estimates
    ).working_bytes // pipeline.devices.sharing(batch * estimates)
    decoder = _decoder_bytes(vae, size, batch=batch, tile=tile) // shares
    need = in_use_bytes() + _PROGRAMS + max(step, decoder)
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
        return _decoder_bytes(vae, size, batch=batch, tile=tile) <= room

    if fits(None):
        return None
    sides = vae.latent_size(size)[1:]
    tiles = range(max(sides) - 1, LEAST_TILE, -LEAST_TILE)
    return next((tile for tile in tiles if fits(tile)), LEAST_TILE)


def _decoder_bytes(vae: Any, size: Size, *, batch: int, tile: int | None) -> int:
    planned = decoder_bytes(vae, size, latents_at_once=AT_ONCE, batch=batch, tile=tile)
    return int(planned * _RUNS_WITH.get(jax.default_backend(), 1.0))


def available_bytes() -> int | None:
    """The memory of this process's first device: the accelerator's, or the machine's on CPU.

    None where the platform does not tell.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    statistics = device.memory_stats() or {}
    return statistics.get("bytes_limit")


def in_use_bytes() -> int:
    """What of `available_bytes` this process has taken already: its programs, its parameters."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_in_use", 0)
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        return 0
    return int(statistics.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"
