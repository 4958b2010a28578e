"""How diffusion time rules the tokens: by the shift and scale of norms, and by gates.

This is adaLN of arXiv 2212.09748, but that time may differ within a clip: it is the same for runs
of tokens, all of a clip or those of a frame.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.arrays import Tokens

_EPSILON = 1e-6


def layer_norm(x: Float[Array, "*rows embed"]) -> Float[Array, "*rows embed"]:
    """Returns each row with mean 0 and variance 1, in float32."""
    x = x.astype(float)
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + _EPSILON)


def affine_norm(x: Tokens, scale: Float[Array, "embed"], bias: Float[Array, "embed"]) -> Tokens:
    """Returns `layer_norm(x) * scale + bias` in the type of `x`."""
    return (layer_norm(x) * scale + bias).astype(x.dtype)


def modulate(
    x: Tokens, shift: Float[Array, "batch places embed"], scale: Float[Array, "batch places embed"]
) -> Tokens:
    """Returns `layer_norm(x) * (1 + scale) + shift`, each place ruling an equal run of tokens."""
    shift, scale = _of_runs(shift), _of_runs(scale)
    runs = layer_norm(x).reshape(shift.shape[0], -1, x.shape[-1])
    return (runs * (1.0 + scale) + shift).reshape(x.shape).astype(x.dtype)


def gated(x: Tokens, change: Tokens, gate: Float[Array, "batch places embed"]) -> Tokens:
    """Returns `x + change * gate`, each place ruling an equal run of tokens."""
    gate = _of_runs(gate)
    runs = change.astype(float).reshape(gate.shape[0], -1, x.shape[-1])
    return (x + (runs * gate).reshape(x.shape)).astype(x.dtype)


def _of_runs(places: Array) -> Array:
    """Returns [batch * places, 1, embed]; XLA on CPU sums over the second of four dimensions, as
    the gradient would, twenty times slower than over the second of three."""
    return places.reshape(-1, 1, places.shape[-1])
