"""A reconstruction term that looks at several scales, and needs no network to be downloaded.

An L1 loss alone lets an autoencoder blur: fine detail is a small part of the pixel error. So the
difference d of two clips is split into bands of spatial frequency, a Laplacian pyramid,

    c[0] = d,   c[j+1] = mean of 2x2 pixels of c[j],   b[j] = c[j] - repeat(c[j+1]),

and the mean absolute value of each band counts the same, that of fine edges as much as that of
large areas (the pyramid loss of arXiv 1707.05776; features of a pretrained network, arXiv
1801.03924, would be the downloaded alternative). The pyramid is linear, so that one pyramid of the
difference stands for the difference of two.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.arrays import Extent, Video
from sora_jax.models.conv import Features, blanked, inside, spatially_halved


def row_mean(values: Features, extent: Extent) -> Float[Array, "batch"]:
    """Returns each row's mean over the places within its extent and all channels; 0 if empty."""
    count = jnp.prod(extent, axis=1) * values.shape[-1]
    total = jnp.sum(blanked(values, extent), axis=(1, 2, 3, 4), dtype=jnp.float32)
    return total / jnp.maximum(count, 1)


def pyramid_l1(
    video: Video, reconstruction: Video, extent: Extent, *, levels: int = 4
) -> Float[Array, "batch"]:
    """Returns each row's mean over bands of the mean absolute difference within the band.

    `levels` bands of detail and what remains; `extent` is in pixels, 0 gives 0. A pixel of a
    coarser level is valid if any of its four is, and the mean of those that are.
    """
    rest = blanked(reconstruction - video, extent)
    total = jnp.zeros(rest.shape[:1])
    for _ in range(levels):
        coarse = _pooled(rest, extent)
        repeated = jnp.repeat(jnp.repeat(coarse, 2, axis=2), 2, axis=3)
        detail = rest - repeated[:, :, : rest.shape[2], : rest.shape[3]]
        total += row_mean(jnp.abs(detail), extent)
        rest, extent = coarse, spatially_halved(extent)
    return (total + row_mean(jnp.abs(rest), extent)) / (levels + 1)


def _pooled(x: Array, extent: Extent) -> Array:
    """Means of the valid ones of 2x2 pixels; `x` is 0 beyond the extent."""
    valid = inside(extent, x.shape[1:4])[..., None].astype(x.dtype)
    return _sums(x) / jnp.maximum(_sums(valid), 1)


def _sums(x: Array) -> Array:
    batch, frames, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    x = x.reshape(batch, frames, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
    return jnp.sum(x, axis=(3, 5))
