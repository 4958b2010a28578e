"""Attention in plain XLA, for any device and type: what the other kernels are held against.

Few logits are computed at once and differentiated as they stand. Many are computed block by block
and never stored: going back, the weights exp(q kᵀ - logsumexp) are computed again from the stored
sum, as in FlashAttention (arXiv 2205.14135), with  dk = dsᵀ q,  dv = pᵀ do,  dq = ds k,
ds = p (do vᵀ - <do, o>).

`forward` and `backward` work on groups, each a head of a row: query [groups, queries, head_dim],
already scaled, key and value [groups, keys, head_dim], and bias [groups, keys] that is added to the
logits, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from sora_jax.models.layout import platform

ATTENTION = ("attention", "attention_weights")
"""Names (`checkpoint_name`) of what keeps attention from being computed again going back: its
output, and its weights or what they are quickly computed from."""

# Bytes of float32 logits. Below the first, storing the weights costs less than computing them
# again. A block above the second falls out of the caches of a CPU; on an accelerator a block should
# be large enough to fill it and small beside its memory.
STORED = 4 * 2**20
_CPU_BLOCK = 2**20
_ACCELERATOR_BLOCK = 2**30

# The logit of a masked key: far below any real one, yet finite, so that a row whose keys are all
# masked has finite weights (its values are zeros, and so are its output and its gradients).
MASKED = -1e30


def flash(query: Any, key: Any, value: Any, valid: Any) -> Any:
    """Attention of one device, of [batch, tokens, heads, head_dim]; `valid` [batch, keys]."""
    batch, queries, heads, head_dim = query.shape
    bias = None if valid is None else jnp.where(valid, 0.0, MASKED)
    scaled = query * jnp.asarray(head_dim**-0.5, query.dtype)
    query, key, value = (grouped(x) for x in (scaled, key, value))
    bias = None if bias is None else jnp.repeat(bias, heads, axis=0)
    if _logits_bytes(query, key) <= STORED:
        out = jax.vmap(_stored)(query, key, value, bias)
    else:
        out = _blocked(query, key, value, bias)
    return out.reshape(batch, heads, queries, head_dim).transpose(0, 2, 1, 3)


def grouped(x: Any) -> Any:
    """Returns [batch, tokens, heads, head_dim] as groups [batch * heads, tokens, head_dim]."""
    batch, tokens, heads, head_dim = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch * heads, tokens, head_dim)


def _logits_bytes(query: Any, key: Any) -> int:
    return 4 * math.prod(query.shape[:-1]) * key.shape[-2]


_product = partial(jnp.matmul, preferred_element_type=float)


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
    return forward(query, key, value, bias)[0]


def forward(query: Any, key: Any, value: Any, bias: Any) -> tuple[Any, Any]:
    """Returns the output [groups, queries, head_dim] and the logsumexp [groups, queries]."""

    def head(query: Any, key: Any, value: Any, bias: Any) -> Any:
        chunks = _split(query, _count(query, key))
        results = lax.map(lambda q: _weigh(q, key, value, bias), chunks)
        return jax.tree.map(lambda x: _joined(x, query.shape[0]), results)

    return _over_groups(head, query, key, value, bias)


def backward(
    query: Any, key: Any, value: Any, bias: Any, out: Any, logsumexp: Any, change: Any
) -> tuple[Any, Any, Any]:
    """Returns the gradients of query, key and value, `change` being that of the output.

    `out` and `logsumexp` may be those of more keys than these, whose part of the gradients this is.
    """
    inner = (change.astype(float) * out.astype(float)).sum(-1)
    return _over_groups(_head_backward, query, key, value, bias, change, logsumexp, inner)


def _keep(query: Any, key: Any, value: Any, bias: Any) -> tuple[Any, Any]:
    results = forward(query, key, value, bias)
    out, logsumexp = (checkpoint_name(x, n) for x, n in zip(results, ATTENTION, strict=True))
    return out, (query, key, value, bias, out, logsumexp)


def _backward(residuals: Any, change: Any) -> tuple[Any, Any, Any, Any]:
    query, key, value, bias, out, logsumexp = residuals
    changes = backward(query, key, value, bias, out, logsumexp, change)
    return *changes, None if bias is None else jnp.zeros_like(bias)


_blocked.defvjp(_keep, _backward)


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

    zeros = jnp.zeros(key.shape, float), jnp.zeros(value.shape, float)
    chunks = [_split(x, _count(query, key)) for x in (query, change, logsumexp, inner)]
    (d_key, d_value), d_query = lax.scan(chunk, zeros, tuple(chunks))
    d_query = _joined(d_query.swapaxes(1, 2), query.shape[0])
    return d_query, d_key.astype(key.dtype), d_value.astype(value.dtype)


def _block() -> int:
    return _CPU_BLOCK if platform() == "cpu" else _ACCELERATOR_BLOCK


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
