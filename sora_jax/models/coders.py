"""Encoder and decoder of the video autoencoder: residual blocks, attention, and levels of them.

The structure is that of Wan 2.1 (arXiv 2503.20314). Every layer is called as `conv` says.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_partitioning
from jaxtyping import Array, Float

from sora_jax.arrays import Extent
from sora_jax.models.attention import attention
from sora_jax.models.autoencoder import Remat
from sora_jax.models.conv import (
    CausalConv,
    Dtype,
    Features,
    Form,
    Layer,
    Pointwise,
    SpatialDown,
    SpatialUp,
    TemporalDown,
    TemporalUp,
    in_turn,
    inside,
)

_EPSILON = 1e-12


def rms_normalised(x: Features) -> tuple[Features, Float[Array, "batch frames height width 1"]]:
    """Returns x / rms(x) over the channels, in float32, and 1 / rms(x) (arXiv 1910.07467)."""
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + _EPSILON)
    return wide * inverse, inverse


@jax.custom_vjp
def _activated(x: Array, gain: Array) -> Array:
    """silu(x / rms(x) * gain), whose gradient keeps nothing but `x` and compiles in half the time.

    With n = x / rms(x), s = sigmoid(n gain) and m the mean over channels, from the gradient d of y:
    e = d s (1 + n gain (1 - s)),  dgain = sum(e n),  dx = (e gain - n m(e gain n)) / rms(x).
    """
    return jax.nn.silu(rms_normalised(x)[0] * gain).astype(x.dtype)


def _activated_forward(x: Array, gain: Array) -> tuple[Array, tuple[Array, Array]]:
    return _activated(x, gain), (x, gain)


def _activated_backward(kept: tuple[Array, Array], d: Array) -> tuple[Array, Array]:
    x, gain = kept
    n, inverse = rms_normalised(x)
    s = jax.nn.sigmoid(n * gain)
    e = d.astype(jnp.float32) * s * (1 + n * gain * (1 - s))
    projected = e * gain - n * jnp.mean(e * gain * n, axis=-1, keepdims=True)
    return (projected * inverse).astype(x.dtype), jnp.sum(e * n, axis=range(x.ndim - 1))


_activated.defvjp(_activated_forward, _activated_backward)


def _gain(module: nn.Module, channels: int) -> Any:
    initial = with_logical_partitioning(nn.initializers.ones_init(), (None,))
    return module.param("scale", initial, (channels,), jnp.float32)


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the channels, computed in float32."""

    @nn.compact
    def __call__(self, x: Features) -> Features:
        return (rms_normalised(x)[0] * _gain(self, x.shape[-1])).astype(x.dtype)


class Activation(nn.Module):
    """RMS norm and SiLU, computed in float32."""

    @nn.compact
    def __call__(
        self, x: Features, past: None, extent: Extent | None
    ) -> tuple[Features, None, Extent | None]:
        return _activated(x, _gain(self, x.shape[-1])), None, extent


class ResidualBlock(nn.Module):
    """Two activated causal convolutions beside an identity, or a linear map to other widths."""

    features: int
    dtype: Dtype
    form: Form | None

    @nn.compact
    def __call__(
        self, x: Features, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[Float[Array, "batch frames height width features"], dict[str, Any], Extent | None]:
        layers = [
            Activation(name="activation_1"),
            CausalConv(self.features, self.dtype, self.form, name="conv_1"),
            Activation(name="activation_2"),
            CausalConv(self.features, self.dtype, self.form, name="conv_2"),
        ]
        change, past, _ = in_turn(layers, x, past, extent)
        if x.shape[-1] != self.features:
            x = Pointwise(self.features, self.dtype, name="shortcut")(x)
        return x + change, past, extent


class FrameAttention(nn.Module):
    """Attention of one head among the valid places of each frame, added to its input."""

    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: Features, past: None, extent: Extent | None
    ) -> tuple[Features, None, Extent | None]:
        batch, frames, height, width, channels = x.shape
        parts = Pointwise(3 * channels, self.dtype, name="qkv")(RMSNorm(name="norm")(x))
        parts = parts.reshape(batch * frames, height * width, 1, 3 * channels)
        query, key, value = jnp.split(parts, 3, axis=-1)
        valid = None
        if extent is not None:
            valid = inside(extent, x.shape[1:4]).reshape(batch * frames, height * width)
        seen = attention(query, key, value, valid=valid).reshape(x.shape)
        return x + Pointwise(channels, self.dtype, name="out")(seen), None, extent


class Coder(nn.Module):
    """What encoder and decoder have in common: the fields, and how a block is made."""

    base: int
    multipliers: tuple[int, ...]
    blocks: int
    features: int
    """Channels of the output."""
    temporal: tuple[bool, ...]
    dtype: Dtype
    remat: Remat
    form: Form | None

    def block(self, features: int, name: str) -> Layer:
        """Returns a residual block."""
        kind = nn.remat(ResidualBlock) if self.remat == "blocks" else ResidualBlock
        return kind(features, self.dtype, self.form, name=name)

    def conv(self, features: int, name: str) -> Layer:
        """Returns a causal convolution."""
        return CausalConv(features, self.dtype, self.form, name=name)

    def middle(self, features: int) -> list[Layer]:
        """Returns the layers of the coarsest grid."""
        return [
            self.block(features, "middle_1"),
            FrameAttention(self.dtype, name="middle_attention"),
            self.block(features, "middle_2"),
        ]


class Encoder(Coder):
    """Pixels to twice the latent channels."""

    @nn.compact
    def __call__(
        self, x: Features, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[
        Float[Array, "batch frames_out rows columns features"], dict[str, Any], Extent | None
    ]:
        widths = [self.base * multiplier for multiplier in self.multipliers]
        layers = [self.conv(self.base, "in")]
        for level, width in enumerate(widths):
            layers += [self.block(width, f"block_{level}_{i}") for i in range(self.blocks)]
            if level < len(self.temporal):
                layers += [SpatialDown(width, self.dtype, self.form, name=f"spatial_{level}")]
                if self.temporal[level]:
                    layers += [TemporalDown(width, self.dtype, self.form, name=f"time_{level}")]
        layers += self.middle(widths[-1])
        layers.append(Activation(name="activation"))
        layers.append(self.conv(self.features, "out"))
        return in_turn(layers, x, past, extent)


class Decoder(Coder):
    """Latents to pixels; levels count from the coarsest."""

    @nn.compact
    def __call__(
        self, x: Features, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[
        Float[Array, "batch frames_out rows columns features"], dict[str, Any], Extent | None
    ]:
        widths = [self.base * multiplier for multiplier in reversed(self.multipliers)]
        temporal = self.temporal[::-1]
        layers = [self.conv(widths[0], "in"), *self.middle(widths[0])]
        for level, width in enumerate(widths):
            layers += [self.block(width, f"block_{level}_{i}") for i in range(self.blocks + 1)]
            if level < len(temporal):
                if temporal[level]:
                    layers += [TemporalUp(width, self.dtype, self.form, name=f"time_{level}")]
                layers += [SpatialUp(width // 2, self.dtype, self.form, name=f"spatial_{level}")]
        layers.append(Activation(name="activation"))
        layers.append(self.conv(self.features, "out"))
        return in_turn(layers, x, past, extent)
