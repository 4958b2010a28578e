"""Text encoders: integers of a tokeniser in, features for cross-attention out.

Every encoder takes tokens and lengths, and returns features and how many of each row are valid; the
others are zero. It has `width`, the width of its features; `positions(tokens)`, how many there are
for so many tokens; and `null(batch)`, the text that stands for none, for caption dropout and
guidance.
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
from sora_jax.models.embeddings import ROTARY, linear, real

BEGIN, PAD = 256, 257
"""Tokens that are no bytes."""

CONVOLUTIONS, KERNEL = 2, 5
"""Convolutions over the bytes of a word, and how many bytes each sees."""

BYTES_PER_WORD = 5
"""For so many bytes of its length a `WordEncoder` has a place for one word, besides its beginning.
The captions of the worlds have 4.9 a word: one that fills its length may be short of a place."""

LONGEST_WORD = 16
"""Bytes after which a word is cut: not all languages have spaces."""

_SPACES = (9, 10, 13, 32)
_EPSILON = 1e-6
_ONES = nn.initializers.ones_init()
_XAVIER = nn.initializers.xavier_uniform()

Features = tuple[Float[Array, "batch positions width"], Int[Array, "batch"]]
"""Of a batch of texts, and how many of them are valid."""


class Norm(nn.Module):
    """RMS norm (arXiv 1910.07467) in float32, with a gain for each feature."""

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        gain = with_logical_partitioning(_ONES, ("embed",))
        scale: Any = self.param("scale", gain, (x.shape[-1],))
        wide = x.astype(float)
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


def _layers(encoder: ByteEncoder | WordEncoder, x: Tokens, count: Int[Array, "batch"]) -> Features:
    """Returns what the layers of an encoder make of its positions, `count` of them valid."""
    valid = jnp.arange(x.shape[1]) < count[:, None]
    turns = ROTARY.angles(x.shape[1], encoder.width // encoder.heads)
    turn = jnp.asarray(np.cos(turns), float), jnp.asarray(np.sin(turns), float)
    broadcast: Any = nn.broadcast
    layers = nn.scan(
        TextBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=broadcast,
        length=encoder.depth,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )(encoder.width, encoder.heads, encoder.dtype, name="layers")
    x = Norm(name="norm")(layers(x, valid, turn)[0])
    return jnp.where(valid[..., None], x, jnp.zeros((), x.dtype)), count


def _null(length: int, batch: int) -> tuple[Int[Array, "batch text"], Int[Array, "batch"]]:
    tokens = jnp.full((batch, length), PAD).at[:, 0].set(BEGIN)
    return tokens, jnp.ones(batch, jnp.int32)


class ByteEncoder(nn.Module):
    """A small bidirectional transformer over the bytes of a caption, trained with the model.

    `length` is the number of tokens of a text, its beginning mark included; the encoder itself
    takes any. Bytes need no vocabulary from elsewhere (ByT5, arXiv 2105.13626).
    """

    width: int
    depth: int
    heads: int
    length: int = 256
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch text"], length: Int[Array, "batch"]) -> Features:
        """Returns one feature for each token; those beyond `length` may hold anything."""
        valid = jnp.arange(tokens.shape[1]) < length[:, None]
        initial = with_logical_partitioning(nn.initializers.normal(1.0), ("vocabulary", "embed"))
        table: Any = self.param("embedding", initial, (PAD + 1, self.width))
        x = table[jnp.where(valid, tokens, PAD)].astype(real(self.dtype))
        return _layers(self, x, length)

    def positions(self, tokens: int) -> int:
        """Returns how many features stand for a text of so many tokens."""
        return tokens

    def null(self, batch: int) -> tuple[Int[Array, "batch text"], Int[Array, "batch"]]:
        """Returns tokens and lengths of empty captions: their beginning mark alone."""
        return _null(self.length, batch)


class WordEncoder(nn.Module):
    """The same over words, each read from its bytes by convolutions.

    A word is the same wherever it begins, much the same with a typing error in it, and costs as
    little as one byte does in a `ByteEncoder` (arXiv 1508.06615 reads words so; 2103.06874 blocks
    of bytes, whose place in a word a small model has to learn away). Spaces part words, and long
    ones are cut every LONGEST_WORD bytes. A text of unusually many short words has fewer places
    than words: all that are left share the last.
    """

    width: int
    depth: int
    heads: int
    length: int = 256
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch text"], length: Int[Array, "batch"]) -> Features:
        """Returns a feature for each word, the first being the beginning mark; tokens beyond
        `length` may hold anything."""
        valid = jnp.arange(tokens.shape[1]) < length[:, None]
        tokens = jnp.where(valid, tokens, PAD)
        member, word = _words(tokens)
        word = jnp.minimum(word, self.positions(tokens.shape[1]) - 1)
        initial = with_logical_partitioning(nn.initializers.normal(1.0), ("vocabulary", "embed"))
        table: Any = self.param("embedding", initial, (PAD + 1, self.letter_width))
        x = jnp.where(member[..., None], table[tokens], 0.0).astype(real(self.dtype))
        for number in range(CONVOLUTIONS):
            conv = linear(self.letter_width, (None, "embed"), self.dtype, name=f"letters_{number}")
            x = jnp.where(member[..., None], x + nn.gelu(conv(_around(x, word))), 0.0)
        holds = (word[..., None] == jnp.arange(self.positions(tokens.shape[1]))) & member[..., None]
        total = jnp.einsum("bnw,bnc->bwc", holds.astype(x.dtype), x)
        # The root keeps the size of what enters, however long the word.
        letters = jnp.maximum(holds.sum(1), 1)[..., None].astype(x.dtype)
        x = linear(self.width, (None, "embed"), self.dtype, name="words_in")(total / letters**0.5)
        return _layers(self, x, jnp.where(member, word + 1, 0).max(1))

    @property
    def letter_width(self) -> int:
        """Numbers that stand for a byte."""
        return max(self.width // 2, 1)

    def positions(self, tokens: int) -> int:
        """Returns how many features stand for a text of so many tokens."""
        return 1 - (1 - tokens) // BYTES_PER_WORD

    def null(self, batch: int) -> tuple[Int[Array, "batch text"], Int[Array, "batch"]]:
        """Returns tokens and lengths of empty captions: their beginning mark alone."""
        return _null(self.length, batch)


def _words(
    tokens: Int[Array, "batch text"],
) -> tuple[Bool[Array, "batch text"], Int[Array, "batch text"]]:
    """Returns which tokens belong to a word, and to which; the beginning mark is one of its own."""
    member = (tokens != PAD) & ~jnp.isin(tokens, jnp.array(_SPACES))
    place = jnp.arange(tokens.shape[1])
    before = jnp.pad(member & (tokens != BEGIN), ((0, 0), (1, 0)))[:, :-1]
    begins = member & ~before
    since = place - jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    begins = member & (since % LONGEST_WORD == 0)
    return member, jnp.maximum(jnp.cumsum(begins, axis=1) - 1, 0)


def _around(
    x: Float[Array, "batch text width"], word: Int[Array, "batch text"]
) -> Float[Array, "batch text around"]:
    """Returns for each byte those around it that belong to the same word, one after another."""
    reach, count = KERNEL // 2, x.shape[1]
    wide = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
    words = jnp.pad(word, ((0, 0), (reach, reach)), constant_values=-1)
    seen = [
        jnp.where((words[:, i : i + count] == word)[..., None], wide[:, i : i + count], 0.0)
        for i in range(KERNEL)
    ]
    return jnp.concatenate(seen, axis=-1)


class LabelEncoder(nn.Module):
    """A learned feature for each of `classes` labels, and one for none; 0 is unconditional."""

    classes: int
    width: int
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch 1"], length: Int[Array, "batch"]) -> Features:
        """Returns one feature a row. Labels are 0..classes - 1, and `classes` for none."""
        initial = with_logical_partitioning(nn.initializers.normal(1.0), ("vocabulary", "embed"))
        table: Any = self.param("embedding", initial, (self.classes + 1, self.width))
        return jnp.where(length[:, None, None] > 0, table[tokens], 0.0).astype(
            real(self.dtype)
        ), length

    def positions(self, tokens: int) -> int:
        """Returns `tokens`: there is one feature a label."""
        return tokens

    def null(self, batch: int) -> tuple[Int[Array, "batch 1"], Int[Array, "batch"]]:
        """Returns the label that stands for none, and lengths of 1."""
        return jnp.full((batch, 1), self.classes), jnp.ones(batch, jnp.int32)
