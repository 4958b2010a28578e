"""Attention: one function, the mask given as valid keys, never as a tokens x tokens array.

    attention(q, k, v) = softmax(q kᵀ / sqrt(head_dim)) v        over the valid keys only

Which kernel computes it, and what devices that share the tokens of a clip do, `Attention` says; by
itself it decides from the device, the shapes and the types. All kernels agree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_partitioning
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from sora_jax.arrays import Tokens
from sora_jax.models import exchange
from sora_jax.models.conv import Dtype
from sora_jax.models.embeddings import linear, rotate
from sora_jax.models.flash import STORED, flash
from sora_jax.models.kernels import cudnn, splash
from sora_jax.models.layout import axis_names, constrained, platform, spec

_EPSILON = 1e-6

PRODUCT = "product"
"""The name (`checkpoint_name`) of what the linear layers give."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attention:
    """How attention is computed.

    kernel  xla works everywhere (`flash`); splash is for TPUs (elsewhere it is interpreted, for
            tests), cudnn for GPUs and 16-bit types (`kernels`). auto takes that of the device where
            it can, and xla where the logits are few.
    across  what devices do that share the tokens of a clip (`exchange`): gather, ulysses (whose
            heads must divide among them) or ring (of xla alone: kernels give no sums to add up).
            auto is ulysses where it can be, else ring.
    """

    kernel: Literal["auto", "xla", "splash", "cudnn"] = "auto"
    across: Literal["auto", "gather", "ulysses", "ring"] = "auto"

    def of_device(self, query: Any, key: Any) -> Callable[..., Any]:
        """Returns the kernel for queries and keys of these shapes: (query, key, value, valid)."""
        kernel, device = self.kernel, platform()
        if kernel == "auto":
            few = 4 * math.prod(query.shape[:-1]) * key.shape[1] <= STORED
            fits = query.dtype.itemsize == 2 and query.shape[-1] <= 128 and not query.shape[-1] % 8
            best = {"tpu": "splash", "gpu": "cudnn" if fits else "xla"}.get(device, "xla")
            kernel = "xla" if few else best
        if kernel == "splash":
            return partial(splash, interpret=device != "tpu")
        return {"xla": flash, "cudnn": cudnn}[kernel]

    def among(self, query: Any, key: Any, value: Any, valid: Any, *, axis: exchange.Axis) -> Any:
        """Attention of a device that holds its part of the tokens, within `jax.shard_map`."""
        across, devices, heads = self.across, lax.axis_size(axis), query.shape[2]
        if across == "auto":
            across = "ring" if heads % devices else "ulysses"
        if across == "ring":
            if self.kernel not in ("auto", "xla"):
                raise ValueError(
                    f"Attention.kernel is {self.kernel}, and a ring of devices needs xla: {heads} "
                    f"heads among {devices} devices along {axis}; make the kernel auto, or across "
                    "gather"
                )
            return exchange.ring(query, key, value, valid, axis=axis)
        if across == "ulysses" and heads % devices:
            raise ValueError(
                f"Attention.across is ulysses, and {heads} heads cannot be dealt out to {devices} "
                f"devices along {axis}; make it ring or auto, or the mesh axis smaller"
            )
        # By the sizes that it will see: all keys, and of the queries or of the heads a part.
        whole = jax.ShapeDtypeStruct((len(key), key.shape[1] * devices, *key.shape[2:]), key.dtype)
        part = {"gather": exchange.gather, "ulysses": exchange.ulysses}[across]
        return part(self.of_device(query, whole), query, key, value, valid, axis=axis)


AUTO = Attention()


def attention(
    query: Float[Array, "batch queries heads head_dim"],
    key: Float[Array, "batch keys heads head_dim"],
    value: Float[Array, "batch keys heads head_dim"],
    *,
    valid: Bool[Array, "batch keys"] | None = None,
    how: Attention = AUTO,
    keys: str | None = None,
) -> Float[Array, "batch queries heads head_dim"]:
    """Returns what each query reads from the valid keys, in the type of `query`.

    Softmax and sums are float32. Keys that are not valid change neither the output nor a gradient,
    whatever they hold (NaN and infinity too); a row without any valid key gives zeros. `None`
    stands for all valid. Large inputs can be differentiated backward only, not forward.

    On a mesh each device attends with its own rows, heads and queries, which lie as the ambient
    rules say. `keys` is the logical name of what the keys stand for; None if all devices have all.
    """
    if valid is not None:
        key = jnp.where(valid[:, :, None, None], key, jnp.zeros((), key.dtype))
        value = jnp.where(valid[:, :, None, None], value, jnp.zeros((), value.dtype))
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or mesh.manual_axes:
        return how.of_device(query, key)(query, key, value, valid)
    of_query = spec(query.shape, ("batch", "tokens", "activation_heads", None))
    axis = spec(key.shape, ("batch", keys, "activation_heads", None))[1]
    if axis != of_query[1] or math.prod(mesh.shape[name] for name in axis_names(axis)) == 1:
        axis = None
    of_key = PartitionSpec(of_query[0], axis, of_query[2], None)
    of_valid = None if valid is None else PartitionSpec(of_query[0], axis)

    def part(query: Any, key: Any, value: Any, valid: Any) -> Any:
        if axis is None:
            return how.of_device(query, key)(query, key, value, valid)
        return how.among(query, key, value, valid, axis=axis)

    return jax.shard_map(
        part,
        in_specs=(of_query, of_key, of_key, of_valid),
        out_specs=of_query,
        check_vma=False,
    )(query, key, value, valid)


def _normalised(x: Any, scale: Any, turn: Any) -> Any:
    """RMS norm over all heads together (arXiv 2302.05442 norms queries and keys), then rotation."""
    wide = x.astype(float)
    scale = scale.reshape(x.shape[-2:])
    wide *= lax.rsqrt(jnp.square(wide).mean((-2, -1), keepdims=True) + _EPSILON) * scale
    return (wide if turn is None else rotate(wide, *turn)).astype(x.dtype)


def _near(key: Any, shape: tuple[int], dtype: Any = float, *, heads: int, most: float) -> Any:
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
    how: Attention = AUTO

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

    def read(
        self, queries: Array, keys: Array, values: Array, *, valid: Any, axis: str = "tokens"
    ) -> Array:
        read = attention(queries, keys, values, valid=valid, how=self.how, keys=axis)
        return checkpoint_name(self.out(read.reshape(*read.shape[:2], self.width)), PRODUCT)

    def _of_heads(self, x: Array, axis: str) -> Array:
        names = ("batch", axis, "activation_heads", None)
        x = constrained(x.reshape(*x.shape[:2], self.heads, -1), names)
        return checkpoint_name(x, PRODUCT)
