"""Text encoders: integers of a tokeniser in, features for cross-attention out.

Every encoder has `width`, the width of its features, and `null(batch)`, the text that stands for
none, for caption dropout and guidance.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.spmd import with_logical_partitioning
from jaxtyping import Array, Bool, Float, Int

from sora_jax.arrays import Tokens
from sora_jax.models.attention import MultiHead
from sora_jax.models.conv import Dtype
from sora_jax.models.embeddings import ROTARY, linear

BEGIN, PAD = 256, 257
"""Tokens of `ByteEncoder` that are no bytes."""

CONVOLUTIONS, KERNEL = 2, 5
"""Convolutions of a strided `ByteEncoder`, and the bytes that each sees."""

_EPSILON = 1e-6
_ONES = nn.initializers.ones_init()
_XAVIER = nn.initializers.xavier_uniform()


class Norm(nn.Module):
    """RMS norm (arXiv 1910.07467) in float32, with a gain for each feature."""

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        gain = with_logical_partitioning(_ONES, ("embed",))
        scale: Any = self.param("scale", gain, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        mean = jnp.square(wide).mean(-1, keepdims=True)
        return (wide * jax.lax.rsqrt(mean + _EPSILON) * scale).astype(x.dtype)


class TextBlock(nn.Module):
    """One pre-norm layer, as a body of a scan: self-attention with rotary positions, and an MLP."""

    width: int
    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(
        self, x: Tokens, valid: Bool[Array, "batch tokens"], turn: tuple[Array, Array]
    ) -> tuple[Tokens, None]:
        attend = MultiHead(self.width, self.heads, self.dtype, _XAVIER, name="attention")
        inner = Norm(name="norm")(x)
        keys, values = attend.keys_values(inner, turn)
        x = x + attend.read(attend.queries(inner, turn), keys, values, valid=valid)
        hidden = linear(4 * self.width, ("embed", "mlp"), self.dtype, name="mlp_in")
        hidden = nn.gelu(hidden(Norm(name="mlp_norm")(x)))
        return x + linear(self.width, ("mlp", "embed"), self.dtype, name="mlp_out")(hidden), None


class ByteEncoder(nn.Module):
    """A small bidirectional transformer over the bytes of a caption, trained with the model.

    `length` is the number of tokens of a text, its beginning mark included; the encoder itself
    takes any. Bytes need no vocabulary from elsewhere (ByT5, arXiv 2105.13626).

    `stride` bytes become one position, after two convolutions that see the bytes around (CANINE,
    arXiv 2103.06874, has one): a long caption costs as little as one of few words, and a word is
    the same wherever it begins.
    """

    width: int
    depth: int
    heads: int
    length: int = 256
    stride: int = 1
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch text"], length: Int[Array, "batch"]
    ) -> Float[Array, "batch positions width"]:
        """Returns features, zero beyond `positions(length)`; tokens beyond `length` may hold
        anything."""
        valid = jnp.arange(tokens.shape[1]) < length[:, None]
        initial = with_logical_partitioning(nn.initializers.normal(1.0), ("vocabulary", "embed"))
        table: Any = self.param("embedding", initial, (PAD + 1, self.letter_width))
        x = table[jnp.where(valid, tokens, PAD)].astype(self.dtype)
        if self.stride > 1:
            x = self._strided(x, valid)
        valid = jnp.arange(x.shape[1]) < self.positions(length)[:, None]
        turns = ROTARY.angles(x.shape[1], self.width // self.heads)
        turn = jnp.asarray(np.cos(turns), jnp.float32), jnp.asarray(np.sin(turns), jnp.float32)
        broadcast: Any = nn.broadcast
        layers = nn.scan(
            TextBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=broadcast,
            length=self.depth,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(self.width, self.heads, self.dtype, name="layers")
        x = Norm(name="norm")(layers(x, valid, turn)[0])
        return jnp.where(valid[..., None], x, jnp.zeros((), x.dtype))

    @property
    def letter_width(self) -> int:
        """Numbers that stand for a byte; half as many as for a position of several."""
        return self.width if self.stride == 1 else max(self.width // 2, 1)

    def _strided(
        self, x: Tokens, valid: Bool[Array, "batch tokens"]
    ) -> Float[Array, "batch positions width"]:
        """One position for each `stride` bytes."""

        def blank(x: Tokens) -> Tokens:
            return jnp.where(valid[..., None], x, jnp.zeros((), x.dtype))

        x, reach = blank(x), KERNEL // 2
        for number in range(CONVOLUTIONS):
            padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
            seen = [padded[:, start : start + x.shape[1]] for start in range(KERNEL)]
            conv = linear(x.shape[2], (None, "embed"), self.dtype, name=f"letters_{number}")
            x = blank(x + nn.gelu(conv(jnp.concatenate(seen, axis=-1))))
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.stride), (0, 0)))
        groups = x.reshape(x.shape[0], -1, self.stride * x.shape[2])
        return linear(self.width, (None, "embed"), self.dtype, name="positions_in")(groups)

    def positions(self, length: Any) -> Any:
        """Returns how many features stand for texts of so many tokens: integers of any kind."""
        return -(-length // self.stride)

    def null(self, batch: int) -> tuple[Int[Array, "batch text"], Int[Array, "batch"]]:
        """Returns tokens and lengths of empty captions: their beginning mark alone."""
        tokens = jnp.full((batch, self.length), PAD).at[:, 0].set(BEGIN)
        return tokens, jnp.ones(batch, jnp.int32)


class LabelEncoder(nn.Module):
    """A learned feature for each of `classes` labels, and one for none; 0 is unconditional."""

    classes: int
    width: int
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch 1"], length: Int[Array, "batch"]
    ) -> Float[Array, "batch 1 width"]:
        """Returns one feature a row. Labels are 0..classes - 1, and `classes` for none."""
        initial = with_logical_partitioning(nn.initializers.normal(1.0), ("vocabulary", "embed"))
        table: Any = self.param("embedding", initial, (self.classes + 1, self.width))
        return jnp.where(length[:, None, None] > 0, table[tokens], 0.0).astype(self.dtype)

    def positions(self, length: Any) -> Any:
        """Returns `length`: there is one feature a label."""
        return length

    def null(self, batch: int) -> tuple[Int[Array, "batch 1"], Int[Array, "batch"]]:
        """Returns the label that stands for none, and lengths of 1."""
        return jnp.full((batch, 1), self.classes), jnp.ones(batch, jnp.int32)
