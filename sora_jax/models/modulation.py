"""How diffusion time rules the tokens: by the shift and scale of norms, and by gates.

This is adaLN of arXiv 2212.09748, but that time may differ within a clip: it is the same for runs
of tokens, all of a clip or those of a frame. Devices that share a clip have a part of each run
(`patches.dealt`), so that none needs the tokens of another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.arrays import Tokens
from sora_jax.models.layout import parts

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
    runs, shift, scale = _in_runs(layer_norm(x), shift, scale)
    return (runs * (1.0 + scale) + shift).reshape(x.shape).astype(x.dtype)


def gated(x: Tokens, change: Tokens, gate: Float[Array, "batch places embed"]) -> Tokens:
    """Returns `x + change * gate`, each place ruling an equal run of tokens."""
    runs, gate = _in_runs(change.astype(float), gate)
    return (x + (runs * gate).reshape(x.shape)).astype(x.dtype)


def _in_runs(x: Tokens, *rulers: Float[Array, "batch places embed"]) -> tuple[Array, ...]:
    """Returns tokens and what rules them, so shaped that each place rules its run."""
    batch, places, width = rulers[0].shape
    shares = parts("tokens")
    if shares == 1:
        # XLA on CPU sums over the second of four dimensions, as the gradient would, twenty times
        # slower than over the second of three.
        return (
            x.reshape(batch * places, -1, width),
            *(each.reshape(-1, 1, width) for each in rulers),
        )
    if places in (1, x.shape[1]):
        return x, *rulers
    return (
        x.reshape(batch, shares, places, -1, width),
        *(each[:, None, :, None] for each in rulers),
    )
