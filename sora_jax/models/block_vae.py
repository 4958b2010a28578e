"""A light video autoencoder that works on blocks of pixels from the start.

The convolutions of `vae` spend most of their time on grids near that of the pixels, with few
channels, where a CPU is slowest. Here each block of pixels that a latent place stands for is one
vector from the beginning, so that all work is products of large matrices on the latent grid:

    z = transform(x) + encoder(blocks of x)            x = transform^-1(z) + blocks of decoder(z)

The transform is linear and starts as a cosine transform (`transform`); encoder and decoder start
silent, so that the autoencoder begins as a good one for natural video and learns what no linear
code can do. In minutes, on few clips, that is worth several dB.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.arrays import Extent, Latent, Size, Video
from sora_jax.models.autoencoder import Autoencoder, Posterior, Remat
from sora_jax.models.coders import Activation, RMSNorm
from sora_jax.models.conv import CausalConv, Dtype, Features, Form, Pointwise, blanked, in_turn
from sora_jax.models.deblocking import deblocked
from sora_jax.models.transform import BlockTransform, blocks_of, pixels_of

START = -5.0
"""The log variance that a code begins with: noise as large as what is coded would bury it."""


class MixingBlock(nn.Module):
    """A causal convolution of few channels, then two linear maps, each beside an identity."""

    hidden: int
    dtype: Dtype
    form: Form | None

    @nn.compact
    def __call__(
        self, x: Features, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[Features, dict[str, Any], Extent | None]:
        width = x.shape[-1]
        inner, _, _ = Activation(name="activation")(x, None, extent)
        inner = jax.nn.silu(Pointwise(self.hidden, self.dtype, name="narrow")(inner))
        conv = CausalConv(self.hidden, self.dtype, self.form, name="conv")
        inner, kept, _ = conv(inner, None if past is None else past["conv"], extent)
        x = x + Pointwise(width, self.dtype, silent=True, name="wide")(jax.nn.silu(inner))
        inner = Pointwise(2 * width, self.dtype, name="up")(RMSNorm(name="norm")(x))
        x = x + Pointwise(width, self.dtype, silent=True, name="down")(jax.nn.silu(inner))
        return x, {"conv": kept}, extent


class BlockCoder(nn.Module):
    """Vectors of one width to those of another, through `blocks` mixing blocks."""

    width: int
    hidden: int
    blocks: int
    features: int
    dtype: Dtype
    remat: Remat
    form: Form | None

    @nn.compact
    def __call__(
        self, x: Features, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[Float[Array, "batch frames height width features"], dict[str, Any]]:
        kind = nn.remat(MixingBlock) if self.remat == "blocks" else MixingBlock
        x = Pointwise(self.width, self.dtype, name="in")(x)
        layers = [
            kind(self.hidden, self.dtype, self.form, name=f"block_{i}") for i in range(self.blocks)
        ]
        x, kept, _ = in_turn(layers, x, past, extent)
        x, _, _ = Activation(name="activation")(x, None, extent)
        x = jax.nn.silu(Pointwise(2 * self.width, self.dtype, name="up")(x))
        return Pointwise(self.features, self.dtype, silent=True, name="out")(x), kept


class BlockVAE(Autoencoder):
    """The autoencoder.

    width    numbers that stand for a latent place within encoder and decoder.
    hidden   channels of their convolutions.
    blocks   of each of the two.
    block    frames, height and width in pixels of a latent place. Raises ValueError for one that
             is not as high as wide.
    deblock  jumps of a pixel from one latent frame to the next that are smaller than this, in grey
             levels of 255, are smoothed (`deblocking`); 0 leaves all.
    """

    width: int = 256
    hidden: int = 64
    blocks: int = 2
    block: Size = Size(4, 8, 8)
    deblock: float = 0.0

    def __post_init__(self) -> None:
        if self.block.height != self.block.width:
            raise ValueError(f"block is {self.block}; a latent place must be as high as wide")
        super().__post_init__()

    def setup(self) -> None:
        def coder(features: int) -> BlockCoder:
            return BlockCoder(
                width=self.width,
                hidden=self.hidden,
                blocks=self.blocks,
                features=features,
                dtype=self.dtype,
                remat=self.remat,
                form=self.form,
            )

        self.encoder = coder(2 * self.latent_channels)
        self.decoder = coder(3 * self.block.frames * self.block.height * self.block.width)
        self.transform = BlockTransform(self.block, self.latent_channels)
        self.measured()

    @property
    def factor(self) -> Size:
        return self.block

    def coded(
        self,
        video: Video,
        past: dict[str, Any] | None,
        covered: Extent | None,
        reach: Extent | None,
    ) -> tuple[Posterior, dict[str, Any]]:
        blocks = blanked(blocks_of(video, self.block, first=past is None), reach)
        moments, kept = self.encoder(blocks, past, reach)
        mean, log_variance = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        mean, log_variance = mean + self.transform.analyse(blocks), log_variance + START
        return Posterior.of(blanked(jnp.concatenate([mean, log_variance], -1), reach)), kept

    def decoded(
        self, latent: Latent, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[Video, dict[str, Any], Extent | None]:
        change, kept = self.decoder(latent, past, extent)
        blocks = change.astype(jnp.float32) + self.transform.synthesise(latent)
        after = None if extent is None else self.pixel_extent(extent)
        video = pixels_of(blocks, self.block, first=past is None)
        if self.deblock:
            before = None if past is None else past["frame"]
            video, kept["frame"] = deblocked(
                video, before, block=self.block.frames, reach=self.deblock / 127.5
            )
        return video, kept, after


PRESETS = {
    "tiny": functools.partial(BlockVAE, width=128, hidden=48, blocks=1),
    "small": functools.partial(BlockVAE, width=256, hidden=64, blocks=2),
}
"""Sizes; those above are in `vae`."""
