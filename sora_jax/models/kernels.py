"""Attention by the kernels of accelerators: splash on TPU, cuDNN on GPU.

Both take which keys are valid without an array of queries x keys: splash as segments (valid keys
and all queries are of one, the other keys of another), cuDNN as a number of keys, for which the
valid ones are moved to the front; attention does not ask for an order of keys.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.models.flash import ATTENTION

CUDNN = "dot_product_attention_fwd_wrapper"
"""The operation of JAX that is `cudnn` going forward. What it gives, for the backward pass too, has
no names (`checkpoint_name`): policies of what is kept know it by its own."""

_LANES = 128
_LARGEST_BLOCK = 1024


def splash(query: Any, key: Any, value: Any, valid: Any, *, interpret: bool = False) -> Any:
    """Attention of one TPU, of [batch, tokens, heads, head_dim]; `valid` [batch, keys] or None.

    The Pallas kernel that comes with JAX. It works in blocks of a multiple of 128 tokens, to which
    queries and keys are filled up. Rows are a dimension of its grid, as heads are: they cannot be
    folded into these, which have segments in common. `interpret` runs it on any device, slowly.
    """
    # Imported here: on machines without a TPU nothing of it is needed.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as pallas,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    queries, heads, keys = query.shape[1], query.shape[2], key.shape[1]
    of_query, of_key = _block(queries), _block(keys)
    scaled = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    query, key, value = (
        _filled(x, block).transpose(0, 2, 1, 3)
        for x, block in ((scaled, of_query), (key, of_key), (value, of_key))
    )
    segments = None
    if valid is not None or key.shape[2] > keys:
        valid = jnp.ones((len(key), keys), bool) if valid is None else valid
        valid = jnp.pad(valid, ((0, 0), (0, key.shape[2] - keys)))
        ones = jnp.ones(query.shape[:1] + query.shape[2:3], jnp.int32)
        segments = pallas.SegmentIds(q=ones, kv=valid.astype(jnp.int32))
    kernel = pallas.make_splash_mha(
        masks.MultiHeadMask([masks.FullMask((query.shape[2], key.shape[2]))] * heads),
        block_sizes=pallas.BlockSizes(
            block_q=of_query,
            block_kv=of_key,
            block_q_dkv=of_query,
            block_kv_dkv=of_key,
            block_q_dq=of_query,
            block_kv_dq=of_key,
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=ATTENTION[0],
        interpret=interpret,
    )
    out: Any = jax.vmap(kernel)(query, key, value, segments)
    return out.transpose(0, 2, 1, 3)[:, :queries]


def _block(tokens: int) -> int:
    """Returns the size of equal blocks of at most _LARGEST_BLOCK that cover so many tokens."""
    count = -(-tokens // _LARGEST_BLOCK)
    return -(-tokens // (count * _LANES)) * _LANES


def _filled(x: Any, block: int) -> Any:
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, 0), (0, 0)))


def cudnn(query: Any, key: Any, value: Any, valid: Any) -> Any:
    """The same of one GPU, by cuDNN's fused attention, which takes 16-bit types."""
    lengths = None
    if valid is not None:
        key, value, lengths = front(key, value, valid)
        # It wants one key at least; what a row without any reads is a key of zeros, so zeros.
        lengths = jnp.maximum(lengths, 1)
    return jax.nn.dot_product_attention(
        query, key, value, key_value_seq_lengths=lengths, implementation="cudnn"
    )


def front(key: Any, value: Any, valid: Any) -> tuple[Any, Any, Any]:
    """Returns keys and values with the valid ones in front, in their order, and their number."""
    order = jnp.argsort(~valid, axis=1, stable=True)[:, :, None, None]
    return _ordered(key, order), _ordered(value, order), valid.sum(1).astype(jnp.int32)


@jax.custom_vjp
def _ordered(x: Any, order: Any) -> Any:
    """Tokens in the order of a permutation. Its gradient is the one of its inverse; JAX, which does
    not know that no token comes twice, would add them up one by one."""
    return jnp.take_along_axis(x, order, axis=1)


_ordered.defvjp(
    lambda x, order: (_ordered(x, order), order),
    lambda order, gradient: (_ordered(gradient, jnp.argsort(order, axis=1)), None),
)
