"""Attention among devices that share the tokens of a clip; inside `jax.shard_map`.

Each device holds its part of the queries, keys and values, [batch, tokens / n, heads, head_dim].

    gather    all keys and values come to every device, which attends with its queries
    Ulysses   tokens for heads: an all-to-all gives every device all tokens of a part of the heads,
              and one back (arXiv 2309.14509); any kernel does the work between
    ring      keys and values go round; what each device has read of the parts so far is kept with
              its logsumexp (arXiv 2310.01889), and going back the gradients of keys and values go
              round with them
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from sora_jax.models.flash import ATTENTION, MASKED, backward, forward, grouped

Kernel = Callable[[Any, Any, Any, Any], Any]
Axis = str | tuple[str, ...]


def gather(kernel: Kernel, query: Any, key: Any, value: Any, valid: Any, *, axis: Axis) -> Any:
    """`valid` is that of this device's keys, as in all of these."""
    key, value = (lax.all_gather(x, axis, axis=1, tiled=True) for x in (key, value))
    return kernel(query, key, value, _whole(valid, axis))


def ulysses(kernel: Kernel, query: Any, key: Any, value: Any, valid: Any, *, axis: Axis) -> Any:
    """The heads must be a multiple of the devices."""
    swap = partial(lax.all_to_all, axis_name=axis, tiled=True)
    query, key, value = (swap(x, split_axis=2, concat_axis=1) for x in (query, key, value))
    return swap(kernel(query, key, value, _whole(valid, axis)), split_axis=1, concat_axis=2)


def _whole(valid: Any, axis: Axis) -> Any:
    return None if valid is None else lax.all_gather(valid, axis, axis=1, tiled=True)


def ring(query: Any, key: Any, value: Any, valid: Any, *, axis: Axis) -> Any:
    """Attention in plain XLA, a part of the keys at a time."""
    batch, queries, heads, head_dim = query.shape
    bias = None if valid is None else jnp.repeat(jnp.where(valid, 0.0, MASKED), heads, axis=0)
    scaled = query * jnp.asarray(head_dim**-0.5, query.dtype)
    out: Any = _ring(axis, grouped(scaled), grouped(key), grouped(value), bias)
    return out.reshape(batch, heads, queries, head_dim).transpose(0, 2, 1, 3)


def _turn(parts: Any, axis: Axis) -> Any:
    """Hands the parts on to the next device."""
    count = lax.axis_size(axis)
    pairs = [(i, (i + 1) % count) for i in range(count)]
    return jax.tree.map(lambda part: lax.ppermute(part, axis, pairs), parts)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ring(axis: Axis, query: Any, key: Any, value: Any, bias: Any) -> Any:
    return _ring_forward(axis, query, key, value, bias)[0]


def _ring_forward(axis: Axis, query: Any, key: Any, value: Any, bias: Any) -> tuple[Any, Any]:
    def step(carry: Any, _: None) -> tuple[Any, None]:
        out, logsumexp, parts = carry
        key, value, bias = parts
        more, its = forward(query, key, value, bias)
        total = jnp.logaddexp(logsumexp, its)
        out = out * jnp.exp(logsumexp - total)[..., None]
        out += more.astype(float) * jnp.exp(its - total)[..., None]
        return (out, total, _turn(parts, axis)), None

    shape = query.shape[:-1]
    # Below any real sum, so that what is kept of nothing has no weight.
    nothing = jnp.zeros(query.shape, float), jnp.full(shape, 2 * MASKED, float)
    carry = (*nothing, (key, value, bias))
    (out, logsumexp, _), _ = lax.scan(step, carry, length=lax.axis_size(axis))
    out = checkpoint_name(out.astype(query.dtype), ATTENTION[0])
    logsumexp = checkpoint_name(logsumexp, ATTENTION[1])
    return out, (query, key, value, bias, out, logsumexp)


def _ring_backward(axis: Axis, residuals: Any, change: Any) -> tuple[Any, Any, Any, Any]:
    query, key, value, bias, out, logsumexp = residuals

    def step(carry: Any, _: None) -> tuple[Any, None]:
        d_query, parts, d_parts = carry
        key, value, bias = parts
        more = backward(query, key, value, bias, out, logsumexp, change)
        d_query += more[0].astype(float)
        d_parts = tuple(d + m.astype(float) for d, m in zip(d_parts, more[1:], strict=True))
        return (d_query, *_turn((parts, d_parts), axis)), None

    zeros = [jnp.zeros(x.shape, float) for x in (query, key, value)]
    carry = (zeros[0], (key, value, bias), tuple(zeros[1:]))
    (d_query, _, d_parts), _ = lax.scan(step, carry, length=lax.axis_size(axis))
    d_key, d_value = (d.astype(x.dtype) for d, x in zip(d_parts, (key, value), strict=True))
    return (
        d_query.astype(query.dtype),
        d_key,
        d_value,
        None if bias is None else jnp.zeros_like(bias),
    )


_ring.defvjp(_ring_forward, _ring_backward)
