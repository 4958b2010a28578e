"""Attention: one function, the mask given as valid keys, never as a tokens x tokens array.

    attention(q, k, v) = softmax(q kᵀ / sqrt(head_dim)) v        over the valid keys only

Few logits are computed at once and differentiated as they stand. Many are computed block by block
and never stored: going back, the weights exp(q kᵀ - logsumexp) are computed again from the stored
sum, as in FlashAttention (arXiv 2205.14135), with  dk = dsᵀ q,  dv = pᵀ do,  dq = ds k,
ds = p (do vᵀ - <do, o>). On a mesh each device attends with its own rows, heads and queries; only
keys and values are gathered over the axis that shards the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import (
    logical_to_mesh_axes,
    with_logical_constraint,
    with_logical_partitioning,
)
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from sora_jax.arrays import Tokens
from sora_jax.models.conv import Dtype
from sora_jax.models.embeddings import linear, rotate

_EPSILON = 1e-6

ATTENTION = ("attention", "attention_weights")
"""Names (`checkpoint_name`) of what keeps attention from being computed again going back: its
output, and its weights or what they are quickly computed from."""

PRODUCT = "product"
"""The name of what the linear layers give."""

# Bytes of float32 logits. Below the first, storing the weights costs less than computing them
# again. A block above the second falls out of the caches of a CPU; on an accelerator a block should
# be large enough to fill it and small beside its memory.
STORED = 4 * 2**20
_CPU_BLOCK = 2**20
_ACCELERATOR_BLOCK = 2**30

# The logit of a masked key: far below any real one, yet finite, so that a row whose keys are all
# masked has finite weights (its values are zeros, and so are its output and its gradients).
_MASKED = -1e30


def attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    valid: Bool[Array, "batch keys"] | None = None,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns what each query reads from the valid keys, in the type of `query`.

    Softmax and sums are float32. Keys that are not valid change neither the output nor a gradient,
    whatever they hold (NaN and infinity too); a row without any valid key gives zeros. `None`
    stands for all valid. Large inputs can be differentiated backward only, not forward.
    """
    if valid is not None:
        key = jnp.where(valid[:, :, None, None], key, jnp.zeros((), key.dtype))
        value = jnp.where(valid[:, :, None, None], value, jnp.zeros((), value.dtype))
    bias = None if valid is None else jnp.where(valid, 0.0, _MASKED)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or mesh.manual_axes:
        return _local(query, key, value, bias)
    of_query = _spec(query.shape, ("batch", "tokens", "activation_heads", None))
    of_key = PartitionSpec(of_query[0], None, of_query[2], None)
    of_bias = None if bias is None else PartitionSpec(of_query[0], None)
    return jax.shard_map(
        _local,
        in_specs=(of_query, of_key, of_key, of_bias),
        out_specs=of_query,
        check_vma=False,
    )(query, key, value, bias)


def constrained(x: Any, names: tuple[str | None, ...]) -> Any:
    """Returns `x` laid out over the mesh as the ambient rules say; a dimension that does not divide
    stays whole."""
    axes = _spec(x.shape, names)
    kept = (name if axis else None for name, axis in zip(names, axes, strict=True))
    return with_logical_constraint(x, tuple(kept))


def _spec(shape: tuple[int, ...], names: tuple[str | None, ...]) -> PartitionSpec:
    """Returns the mesh axes of the ambient logical rules, without those that do not divide."""
    sizes = jax.sharding.get_abstract_mesh().shape
    mesh_axes: Any = logical_to_mesh_axes(names)
    axes = []
    for length, axis in zip(shape, mesh_axes, strict=True):
        parts = [sizes.get(a, 1) for a in ((axis,) if isinstance(axis, str) else axis or ())]
        axes.append(axis if length % math.prod(parts) == 0 else None)
    return PartitionSpec(*axes)


def _local(query: Any, key: Any, value: Any, bias: Any) -> Any:
    """Attention of one device; `bias` [batch, keys] is added to the logits."""
    batch, queries, heads, head_dim = query.shape
    scaled = query * jnp.asarray(head_dim**-0.5, query.dtype)
    query, key, value = (
        x.transpose(0, 2, 1, 3).reshape(batch * heads, -1, head_dim) for x in (scaled, key, value)
    )
    bias = None if bias is None else jnp.repeat(bias, heads, axis=0)
    if _logits_bytes(query, key) <= STORED:
        out = jax.vmap(_stored)(query, key, value, bias)
    else:
        out = _blocked(query, key, value, bias)
    return out.reshape(batch, heads, queries, head_dim).transpose(0, 2, 1, 3)


def _logits_bytes(query: Any, key: Any) -> int:
    return 4 * math.prod(query.shape[:-1]) * key.shape[-2]


_product = partial(jnp.matmul, preferred_element_type=jnp.float32)


def _stored(query: Any, key: Any, value: Any, bias: Any) -> Any:
    """One head, its weights being kept for the backward pass."""
    logits = _product(query, key.T)
    weights = jax.nn.softmax(logits if bias is None else logits + bias)
    weights = checkpoint_name(weights.astype(value.dtype), ATTENTION[1])
    return checkpoint_name(_product(weights, value).astype(query.dtype), ATTENTION[0])


def _weigh(query: Any, key: Any, value: Any, bias: Any) -> tuple[Any, Any]:
    """One head: the output [queries, head_dim] and the logsumexp of the logits [queries]."""
    logits = _product(query, key.T)
    if bias is not None:
        logits = logits + bias
    largest = logits.max(-1, keepdims=True)
    weights = jnp.exp(logits - largest)
    total = weights.sum(-1, keepdims=True)
    out = _product(weights.astype(value.dtype), value) / total
    return out.astype(query.dtype), (largest + jnp.log(total))[:, 0]


@jax.custom_vjp
def _blocked(query: Any, key: Any, value: Any, bias: Any) -> Any:
    return _forward(query, key, value, bias)[0]


def _forward(query: Any, key: Any, value: Any, bias: Any) -> tuple[Any, Any]:
    def head(query: Any, key: Any, value: Any, bias: Any) -> Any:
        chunks = _split(query, _count(query, key))
        results = lax.map(lambda q: _weigh(q, key, value, bias), chunks)
        return jax.tree.map(lambda x: _joined(x, query.shape[0]), results)

    results = _over_groups(head, query, key, value, bias)
    out, logsumexp = (checkpoint_name(x, n) for x, n in zip(results, ATTENTION, strict=True))
    return out, (query, key, value, bias, out, logsumexp)


def _backward(residuals: Any, change: Any) -> tuple[Any, Any, Any, Any]:
    query, key, value, bias, out, logsumexp = residuals
    inner = (change.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1)
    changes = _over_groups(_head_backward, query, key, value, bias, change, logsumexp, inner)
    return *changes, None if bias is None else jnp.zeros_like(bias)


def _head_backward(
    query: Any, key: Any, value: Any, bias: Any, change: Any, logsumexp: Any, inner: Any
) -> tuple[Any, Any, Any]:
    """One head: the gradients of query, key and value, from blocks of [keys, queries]."""
    shift = 0.0 if bias is None else bias[:, None]

    def chunk(sums: Any, of_queries: Any) -> tuple[Any, Any]:
        query, change, logsumexp, inner = of_queries
        weights = jnp.exp(_product(key, query.T) + shift - logsumexp)
        d_logits = weights * (_product(value, change.T) - inner)
        weights, d_logits = weights.astype(key.dtype), d_logits.astype(key.dtype)
        d_key, d_value = _product(d_logits, query), _product(weights, change)
        # Transposed after the loop: within, XLA would transpose the far larger factor.
        d_query = _product(key.T, d_logits).astype(query.dtype)
        return (sums[0] + d_key, sums[1] + d_value), d_query

    zeros = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    chunks = [_split(x, _count(query, key)) for x in (query, change, logsumexp, inner)]
    (d_key, d_value), d_query = lax.scan(chunk, zeros, tuple(chunks))
    d_query = _joined(d_query.swapaxes(1, 2), query.shape[0])
    return d_query, d_key.astype(key.dtype), d_value.astype(value.dtype)


_blocked.defvjp(_forward, _backward)


def _block() -> int:
    return _CPU_BLOCK if jax.default_backend() == "cpu" else _ACCELERATOR_BLOCK


def _over_groups(function: Callable[..., Any], *grouped: Any) -> Any:
    """Applies a function of one head to all groups, as many at once as make a block."""
    groups = grouped[0].shape[0]
    at_once = _block() // max(1, _logits_bytes(grouped[0][0], grouped[1][0]))
    if at_once >= groups:
        return jax.vmap(function)(*grouped)
    # Not a batch of one: XLA on CPU runs plain matrix products twice as fast as batched ones.
    batch_size = at_once if at_once > 1 else None
    return lax.map(lambda of_group: function(*of_group), grouped, batch_size=batch_size)


def _count(query: Any, key: Any) -> int:
    """Into how many blocks the queries of one head are split."""
    return -(-_logits_bytes(query, key) // _block())


def _split(x: Any, count: int) -> Any:
    """Splits [queries, ...] into [count, length, ...]; the last part is filled up with zeros."""
    length = -(-x.shape[0] // count)
    padding = [(0, count * length - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(count, length, *x.shape[1:])


def _joined(chunks: Any, length: int) -> Any:
    return chunks.reshape(-1, *chunks.shape[2:])[:length]


def _normalised(x: Any, scale: Any, turn: Any) -> Any:
    """RMS norm over all heads together (arXiv 2302.05442 norms queries and keys), then rotation."""
    wide = x.astype(jnp.float32)
    scale = scale.reshape(x.shape[-2:])
    wide *= lax.rsqrt(jnp.square(wide).mean((-2, -1), keepdims=True) + _EPSILON) * scale
    return (wide if turn is None else rotate(wide, *turn)).astype(x.dtype)


def _near(key: Any, shape: tuple[int], dtype: Any = jnp.float32, *, heads: int, most: float) -> Any:
    """Returns biases [width]: from 0 to `most` over the heads, real and not imaginary."""
    sizes = jnp.linspace(0.0, most, heads)[:, None, None] * jnp.array([[1.0], [0.0]])
    halves = shape[0] // heads // 2
    return jnp.broadcast_to(sizes, (heads, 2, halves)).reshape(shape).astype(dtype)


class MultiHead(nn.Module):
    """Projections around attention; `turn` (cosines and sines of the tokens) rotates.

    near  how large the biases of queries and keys begin in the last head, and in those before it
          in proportion. What is the same in all tokens, once rotated, attends to what is near; with
          biases of 0 training takes thousands of steps to find that out.
    """

    width: int
    heads: int
    dtype: Dtype
    out_kernel: nn.initializers.Initializer
    near: float = 0.0

    def setup(self) -> None:
        start = partial(_near, heads=self.heads, most=self.near)
        self.query, self.key = (
            linear(self.width, ("embed", "heads"), self.dtype, bias=start) for _ in range(2)
        )
        self.value = linear(self.width, ("embed", "heads"), self.dtype)
        self.out = linear(self.width, ("heads", "embed"), self.dtype, kernel=self.out_kernel)
        scale = with_logical_partitioning(nn.initializers.ones_init(), ("heads",))
        self.query_scale: Any = self.param("query_scale", scale, (self.width,))
        self.key_scale: Any = self.param("key_scale", scale, (self.width,))

    def queries(self, x: Tokens, turn: Any = None) -> Array:
        return _normalised(self._of_heads(self.query(x), "tokens"), self.query_scale, turn)

    def keys_values(self, x: Tokens, turn: Any = None, *, axis: str = "tokens") -> Any:
        """Returns keys and values; `axis` is the logical name of what they stand for."""
        keys, values = (self._of_heads(part(x), axis) for part in (self.key, self.value))
        return _normalised(keys, self.key_scale, turn), values

    def read(self, queries: Array, keys: Array, values: Array, *, valid: Any) -> Array:
        read = attention(queries, keys, values, valid=valid)
        return checkpoint_name(self.out(read.reshape(*read.shape[:2], self.width)), PRODUCT)

    def _of_heads(self, x: Array, axis: str) -> Array:
        names = ("batch", axis, "activation_heads", None)
        x = constrained(x.reshape(*x.shape[:2], self.heads, -1), names)
        return checkpoint_name(x, PRODUCT)
