"""Whether a clip will fit into memory, told before the work begins."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from sora_jax.arrays import Size
from sora_jax.generation.pixels import AT_ONCE, LEAST_TILE, PREROLL
from sora_jax.models.accounting import decoder_bytes, encoding, transformer
from sora_jax.models.autoencoder import Autoencoder

if TYPE_CHECKING:
    from sora_jax.generation.model import GenerativeModel

log = logging.getLogger("sora_jax")

_SHARE = 4
"""The autoencoder takes at most one part in four of the memory; larger pictures go in tiles."""

_RUNS_WITH = {"cpu": 2.0}
"""How many times what XLA plans for an autoencoder it takes while it runs, as measured
(experiments/benchmarks/sizes.py); elsewhere as much as it plans."""

_PROGRAMS, _COMPILER = 80 * 2**20, 150 * 2**20
"""Bytes that compiling and the programs themselves take, and the compiler when it is first used, as
measured there."""

_ENCODED = 75
"""Frames of pixels that the encoder of an .mp4 looks ahead and refers to, as measured."""

_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""What a container may take of the machine's memory, in versions 2 and 1 of cgroup."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
    """What sampling a clip takes.

    tile  the longest side, in latents, that is coded as a whole; None where all of it is.
    """

    size: Size
    bytes: int
    tile: int | None

    def __str__(self) -> str:
        tiles = "" if self.tile is None else f", coded in tiles of {self.tile} latents"
        return f"{self.size} needs about {_gib(self.bytes)}{tiles}"


def needed(
    model: GenerativeModel,
    size: Size,
    *,
    estimates: int,
    batch: int = 1,
    encodes: int = 0,
    more: int = 0,
    closed: bool = False,
    streams: bool = False,
    first: bool = True,
) -> Need:
    """Returns what sampling `batch` clips of `size` pixels together takes of a device, with what is
    in use there already. Devices that share the work take equal parts of it. Of a longer clip the
    transformer has as much at once as it was trained on, the autoencoder `AT_ONCE` latents.

    estimates  that guidance makes at once.
    encodes    frames of pixels that are encoded before; they are held as they are and filled up.
    more       latents that the transformer sees beyond those of the clip.
    closed     whether the latents close to a ring, round which the decoder goes twice.
    streams    whether frames go to a file as they are made; else all of them are held, in parts and
               joined.
    first      whether nothing was sampled in this process, so that the compiler is not there yet.

    Raises MemoryError, with the estimate, where there is not so much.
    """
    there, free = available_bytes(), free_bytes()
    vae, denoiser = model.vae, model.denoiser
    latent = vae.latent_size(size)
    seen = latent._replace(frames=latent.frames + more)
    if model.window:
        seen = seen._replace(frames=min(seen.frames, model.window))
    shares = model.devices.sharing_pictures(
        latent._replace(frames=min(latent.frames, AT_ONCE)), begins=latent.frames <= AT_ONCE
    )

    def codec(tile: int | None) -> int:
        return _codec_bytes(vae, size, batch=batch, tile=tile, encodes=encodes) // shares

    tile = None
    if there is not None and codec(None) > there // _SHARE:
        sides = range(max(latent[1:]) - 1, LEAST_TILE, -LEAST_TILE)
        tile = next((side for side in sides if codec(side) <= there // _SHARE), LEAST_TILE)
    text = denoiser.text.positions(model.tokenizer.tokens([""]).tokens.shape[1])
    step = transformer(
        denoiser.model, seen, text=text, batch=batch * estimates
    ).working_bytes // model.devices.sharing(batch * estimates)
    need = in_use_bytes() + _PROGRAMS + max(step, codec(tile))
    if jax.default_backend() == "cpu":
        # Elsewhere frames, the compiler and the encoder have another memory than what computes.
        made = 0 if streams else size.frames
        if closed:
            made += vae.pixel_size(Size(1 + max(PREROLL, latent.frames), 1, 1)).frames
        frames = 2 * (made + encodes) * batch + _ENCODED * streams
        need += _COMPILER * first + frames * 3 * size.height * size.width
    if there is not None and need > min(there, free or there):
        raise MemoryError(
            f"{size} needs about {_gib(need)}, and {_told(there, free)}; ask for fewer frames or "
            f"a smaller height and width{', or guidance 1' if estimates > 1 else ''}"
            f"{', or a smaller batch' if batch > 1 else ''}"
        )
    return Need(size=size, bytes=need, tile=tile)


def _codec_bytes(
    vae: Autoencoder, size: Size, *, batch: int, tile: int | None, encodes: int
) -> int:
    """What decoding takes at its peak, or encoding if that is more."""
    planned = decoder_bytes(vae, size, latents_at_once=AT_ONCE, batch=batch, tile=tile)
    if encodes:
        side = max(size) if tile is None else tile * vae.factor.height
        frames = min(encodes, AT_ONCE * vae.factor.frames)
        part = Size(frames, min(size.height, side), min(size.width, side))
        planned = max(planned, encoding(vae, part, batch=batch).working_bytes)
    return int(planned * _RUNS_WITH.get(jax.default_backend(), 1.0))


def available_bytes() -> int | None:
    """The memory of this process's first device: the accelerator's; on CPU the machine's, or what
    the container may take of it. None where the platform does not tell.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limits = (path.read_text().strip() for path in _LIMITS if path.exists())
        # Version 2 says "max" where there is none, version 1 a number beyond any machine.
        return min([machine, *(int(limit) for limit in limits if limit.isdigit())])
    statistics = device.memory_stats() or {}
    return statistics.get("bytes_limit")


def free_bytes() -> int | None:
    """What this process may still come to of `available_bytes`, with what it has already: on CPU
    other processes of the machine take some. None where the platform does not tell.
    """
    told = Path("/proc/meminfo")
    if jax.local_devices()[0].platform != "cpu" or not told.exists():
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", told.read_text())
    return int(found[1]) * 1024 + in_use_bytes() if found else None


def check_frames(size: Size, *, what: str) -> None:
    """Raises MemoryError where so many frames of pixels, in parts and joined, cannot be held."""
    there, free = available_bytes(), free_bytes()
    need = in_use_bytes() + 2 * 3 * math.prod(size)
    if jax.default_backend() == "cpu" and there is not None and need > min(there, free or there):
        raise MemoryError(
            f"{what}: its {size.frames} frames of {size.height} x {size.width} pixels need about "
            f"{_gib(need)}, and {_told(there, free)}; give a smaller height or width, or a shorter "
            "file"
        )


def _told(there: int, free: int | None) -> str:
    rest = f", of which {_gib(free)} are free" if free is not None and free < there else ""
    return f"this device has {_gib(there)}{rest}"


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
