"""The vocabulary: one word for each array dimension, in annotations, sharding rules and fields.

Dimensions of data        batch  frames  height  width  channels  (always in this order)
the same on the latent grid      latent_frames  latent_height  latent_width  latent_channels
of a transformer          tokens  text  embed  heads  head_dim  mlp

Padding is always a suffix of its axis, so that three integers a row (`extent`) say which part of a
clip is real, and one integer a row (`length`) which part of a text is.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, no_type_check

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

Video = Float[Array, "batch frames height width 3"]
"""Pixels in -1..1."""

Latent = Float[Array, "batch latent_frames latent_height latent_width latent_channels"]

Sigma = Float[Array, "batch #latent_frames #latent_height #latent_width"]
"""The noise field: diffusion time of each place of the latent grid, 0 = data and 1 = noise."""

Known = Bool[Array, "batch #latent_frames #latent_height #latent_width"]
"""Which places of the latent grid were given and are not to be generated."""

Extent = Int[Array, "batch 3"]
"""Valid frames, height and width of each row; 0 in a row that is empty."""

Tokens = Float[Array, "batch tokens embed"]

Key = jax.Array
"""A key of `jax.random`."""


class Size(NamedTuple):
    """Frames, height and width, in pixels unless said otherwise."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


class Share(NamedTuple):
    """The rows of a batch that a process has: these of `of` equal consecutive parts, in order.

    copied  whether other processes have some of them too, and must have the same in them.
    """

    parts: tuple[int, ...] = (0,)
    of: int = 1
    copied: bool = False

    def rows(self, batch: int) -> tuple[range, ...]:
        """Returns the rows of each part; `of` divides `batch`."""
        many = batch // self.of
        return tuple(range(part * many, (part + 1) * many) for part in self.parts)


ALL_ROWS = Share()

HostOrDevice = Array | np.ndarray
"""A loader yields NumPy arrays, a step takes device arrays."""


# Unchecked at run time: as pytrees they also carry shapes, shardings and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """Captions as a model reads them.

    `tokens` are the integers of a tokeniser, `length` how many of them are real (at least one: an
    empty caption still has its beginning mark).
    """

    tokens: Int[HostOrDevice, "batch text"]
    length: Int[HostOrDevice, "batch"]


@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Clips of one resolution bucket, padded to it.

    video   uint8 [batch, frames, height, width, 3]; None where latents are cached.
    latent  normalised posterior means, float [batch, latent_frames, latent_height, latent_width,
            latent_channels]; None where pixels are read.
    extent  valid frames, height and width of each row, in pixels in both cases. Beyond it, edges
            are replicated up to the factor of the autoencoder and the rest is zero.
    text    the captions.
    weight  1 for a row that counts; 0 for one that is empty or failed to load (extent 0 too).
    spanned which latent frames of a row are known by themselves, in training with given frames;
            bool [batch, latent_frames]. None where there are no such frames.
    spans   of the form of `latent`: the latents of those frames, encoded as they are when they are
            all there is, so that they hold nothing of the frames before them. None in pixels.
    """

    video: UInt8[HostOrDevice, "batch frames height width 3"] | None
    latent: Float[HostOrDevice, "batch latent_frames latent_height latent_width channels"] | None
    extent: Int[HostOrDevice, "batch 3"]
    text: Text
    weight: Float[HostOrDevice, "batch"]
    spanned: Bool[HostOrDevice, "batch latent_frames"] | None = None
    spans: Float[HostOrDevice, "batch latent_frames latent_height latent_width channels"] | None = (
        None
    )
