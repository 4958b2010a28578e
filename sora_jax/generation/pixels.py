"""Between pixels and latents: in a stream where a clip is long, in tiles where it is large.

The autoencoder is causal: its first latent stands for one frame, each further one for several, and
a latent holds something of the frames before it. So how a clip is encoded depends on what is to
become of it:

* `encode`: from its beginning, as training does. Its last frame is repeated to fill a latent.
* `encode_ending`: so that its last frame ends a latent, for what is to be gone on with. The first
  frame is repeated in front, and these repetitions are left out of what is decoded.
* `encode_lone`: so that its first frame begins a latent of several frames, for what is to have
  other frames before it, which do not exist yet. In their place the encoder sees the first frame at
  a standstill, as training had it (`Autoencoder.lone`), and the latents of that are thrown away:
  those that are left have the statistics of the middle of a clip, and nothing of a first frame.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from sora_jax.arrays import HostOrDevice, Size
from sora_jax.generation.devices import ANY, Devices
from sora_jax.models.autoencoder import Autoencoder

AT_ONCE = 8
"""Latent frames coded together; longer clips go through the autoencoder in a stream."""

PREROLL = 4
"""Latents of a standstill before a clip that is encoded by itself, and the least number of latents
that a loop is decoded through before its beginning."""

MARGIN, RAMP = 2, 4
"""Latents at the edge of a tile that count nothing, and those over which a tile fades in."""

LEAST_TILE = 4 * MARGIN + 2 * RAMP
"""The smallest tile: as much of it is its own as it shares with others."""

Frames = UInt8[np.ndarray, "frames height width 3"]
Coded = Float[np.ndarray, "1 latent_frames latent_height latent_width channels"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """An autoencoder at work on single clips.

    tile     the longest side, in latents, that is coded as a whole; larger pictures are coded in
             tiles that overlap and fade into one another. None for no limit.
    devices  those that share the work.
    """

    vae: Autoencoder
    params: Any
    tile: int | None = None
    devices: Devices = ANY

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < LEAST_TILE:
            raise ValueError(f"tile={self.tile}: give at least {LEAST_TILE} latents")

    def encode(self, frames: Frames) -> Coded:
        """Returns the normalised latents of a clip from its beginning."""
        _, block, _ = factor = self.vae.factor
        frames = _whole_blocks(frames, block)
        count = self.vae.latent_size(Size(*frames.shape[:3])).frames
        ends = [1 + factor.frames * (end - 1) for end in _ends(count)]
        frames = np.concatenate([frames, frames[-1:].repeat(ends[-1] - len(frames), axis=0)])
        past: dict[Any, Any] = {}
        parts = [
            self._tiled(_encode, frames[None, start:end], past, unit=block, grown=1)
            for start, end in itertools.pairwise([0, *ends])
        ]
        return np.concatenate(parts, axis=1)

    def encode_ending(self, frames: Frames) -> tuple[Coded, int]:
        """Returns latents of which the last ends with the last frame, and how many of the frames
        that they decode to come before the first."""
        before = (1 - len(frames)) % self.vae.factor.frames
        return self.encode(np.concatenate([frames[:1].repeat(before, axis=0), frames])), before

    def encode_lone(self, frames: Frames) -> Coded:
        """Returns latents of which the first begins with the first frame, and is not the first of a
        clip."""
        before = self.vae.pixel_size(Size(1 + PREROLL, 1, 1)).frames
        still = frames[:1].repeat(before, axis=0)
        return self.encode(np.concatenate([still, frames]))[:, 1 + PREROLL :]

    def decode(
        self, latent: Float[HostOrDevice, "batch f h w channels"]
    ) -> UInt8[np.ndarray, "batch frames height width 3"]:
        """Returns the pixels of normalised latents."""
        return np.concatenate(list(self.stream([latent])), axis=1)

    def stream(
        self, chunks: Iterable[Float[HostOrDevice, "batch _ h w channels"]]
    ) -> Iterator[UInt8[np.ndarray, "batch _ height width 3"]]:
        """Returns the pixels of latents that come in chunks, of at most AT_ONCE at a time."""
        past: dict[Any, Any] = {}
        for chunk in chunks:
            count = chunk.shape[1]
            ends = [*range(AT_ONCE, count, AT_ONCE), count] if past else _ends(count)
            for start, end in itertools.pairwise([0, *ends]):
                part = chunk[:, start:end]
                pixels = self._tiled(_decode, part, past, unit=1, grown=self.vae.factor.height)
                yield np.round(pixels).astype(np.uint8)

    def decode_ring(self, latent: Coded) -> Frames:
        """Returns the frames of latents that close to a ring, of as many frames each.

        The decoder goes round before what is kept begins, so that it has the past that the end of
        the ring gives it.
        """
        count = latent.shape[1]
        # The first latent that it sees becomes a single frame, so there is one more.
        before = np.arange(-max(PREROLL, count) - 1, 0) % count
        video = self.decode(np.concatenate([latent[:, before], latent], axis=1))[0]
        return video[-count * self.vae.factor.frames :]

    def _tiled(
        self, code: Any, x: Any, past: dict[Any, Any], *, unit: int, grown: int
    ) -> np.ndarray:
        """Returns `code` of x, whole or in tiles; `past` is kept tile by tile.

        unit   places of x to a latent.
        grown  places of the result to a latent.
        """
        sides = [side // unit for side in x.shape[2:4]]
        rows, columns = (_spans(side, self.tile) for side in sides)
        if len(rows) == len(columns) == 1:
            return self._coded(code, x, past, (0, 0))
        total, weights = np.zeros(0), np.zeros([grown * side for side in sides], np.float32)
        for row, column in itertools.product(rows, columns):
            part = x[:, :, _slice(row, unit), _slice(column, unit)]
            out = self._coded(code, part, past, (row, column))
            weight = np.outer(_weight(row, sides[0], grown), _weight(column, sides[1], grown))
            if not total.size:
                total = np.zeros((*out.shape[:2], *weights.shape, out.shape[-1]), np.float32)
            rectangle = _slice(row, grown), _slice(column, grown)
            total[:, :, *rectangle] += out.astype(np.float32) * weight[..., None]
            weights[rectangle] += weight
        total /= weights[..., None]
        return total

    def _coded(self, code: Any, x: Any, past: dict[Any, Any], which: Any) -> np.ndarray:
        """`code` of a tile of x, whose past is kept as `which`."""
        step = self.vae.factor if code is _encode else Size(1, 1, 1)
        latent = Size(*(-(-side // n) for side, n in zip(x.shape[1:4], step, strict=True)))
        x = self.devices.everywhere(x)
        with self.devices.use_for_pictures(latent, begins=which not in past):
            out, past[which] = code(self.vae, self.params, x, past.get(which))
        return np.asarray(self.devices.everywhere(out))


def _slice(span: tuple[int, int], unit: int) -> slice:
    return slice(unit * span[0], unit * span[1])


def _ends(count: int) -> list[int]:
    """Where the chunks of `count` latent frames end: of more than AT_ONCE the first is alone, and
    the others equal, so that few programs are compiled."""
    if count <= AT_ONCE:
        return [count]
    return [1, *range(1 + AT_ONCE, count, AT_ONCE), count]


def _spans(side: int, tile: int | None) -> list[tuple[int, int]]:
    """Tiles of equal length that cover a side."""
    if tile is None or side <= tile:
        return [(0, side)]
    step = tile - 2 * MARGIN - RAMP
    starts = [*range(0, side - tile, step), side - tile]
    return [(start, start + tile) for start in starts]


def _weight(span: tuple[int, int], side: int, grown: int) -> Float[np.ndarray, "pixels"]:
    """How much each row of a tile counts: nothing near an edge within the picture, then more."""
    place = (np.arange(grown * (span[1] - span[0]), dtype=np.float32) + 0.5) / grown
    from_start = place if span[0] > 0 else np.full_like(place, np.inf)
    from_end = place[::-1] if span[1] < side else np.full_like(place, np.inf)
    return np.clip((np.minimum(from_start, from_end) - MARGIN) / RAMP, 1e-6, 1)


def _whole_blocks(
    frames: Frames, block: int
) -> UInt8[np.ndarray, "frames whole_height whole_width 3"]:
    """The frames, their last row and column repeated until blocks are whole."""
    sides = [(0, -side % block) for side in frames.shape[1:3]]
    return np.pad(frames, [(0, 0), *sides, (0, 0)], mode="edge")


def to_uint8(video: Float[Array, "batch frames height width 3"]) -> UInt8[Array, "b f h w 3"]:
    """Returns pixels of -1..1 as 0..255, clipped."""
    return jnp.clip(jnp.round((video + 1) * 127.5), 0, 255).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=0)
def _encode(vae: Autoencoder, params: Any, video: Any, past: Any) -> Any:
    video = jnp.asarray(video, float) / 127.5 - 1
    posterior, past = vae.apply({"params": params}, video, past, method="encode_chunk")
    return vae.apply({"params": params}, posterior.mean, method="normalise"), past  # type: ignore


@functools.partial(jax.jit, static_argnums=0)
def _decode(vae: Autoencoder, params: Any, latent: Any, past: Any) -> Any:
    latent = vae.apply({"params": params}, latent, method="denormalise")
    video, past = vae.apply({"params": params}, latent, past, method="decode_chunk")
    return to_uint8(video), past  # type: ignore[arg-type]
