"""Spacetime patches: from a latent of any size to tokens and back.

A patch of (frames, height, width) places becomes one vector, channels fastest, as in Wan
(arXiv 2503.20314). A grid that the patch does not divide is filled up with zeros at its end, and
cropped again on the way back.

Tokens are in order of frames, height, width. Devices that share a clip have an equal part of every
frame each (`dealt`), one device's tokens after another's: what is the same for all tokens of a
frame is then the same for a run of them on each device.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from sora_jax.arrays import Extent, Latent, Sigma, Size

_GRID = (1, 2, 3)


def token_grid(size: tuple[int, ...], patch: tuple[int, int, int]) -> Size:
    """Returns how many patches cover a latent of `size` frames, height and width."""
    return Size(*(-(-length // step) for length, step in zip(size, patch, strict=True)))


def token_extent(extent: Extent, patch: tuple[int, int, int]) -> Extent:
    """Returns the extent in tokens of one in latents: a token is valid if any of its latents is."""
    steps = jnp.array(patch)
    return (extent + steps - 1) // steps


def patchify(latent: Latent, patch: tuple[int, int, int]) -> Float[Array, "batch tokens values"]:
    """Returns one vector of values [frames, height, width, channels of a patch] for each token."""
    blocks = _blocks(latent, patch)
    return blocks.reshape(blocks.shape[0], -1, patch[0] * patch[1] * patch[2] * latent.shape[-1])


def unpatchify(
    tokens: Float[Array, "batch tokens values"], size: Size, *, patch: tuple[int, int, int]
) -> Latent:
    """Returns the latent of `size` frames, height and width; the inverse of `patchify`."""
    batch, channels = tokens.shape[0], tokens.shape[-1] // (patch[0] * patch[1] * patch[2])
    grid = token_grid(size, patch)
    blocks = tokens.reshape(batch, *grid, *patch, channels).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    full = (grid[i] * patch[i] for i in range(3))
    return blocks.reshape(batch, *full, channels)[:, : size[0], : size[1], : size[2]]


def dealt(
    tokens: Num[Array, "batch tokens *rest"] | Bool[Array, "batch tokens *rest"],
    frames: int,
    shares: int,
) -> Array:
    """Returns the tokens of so many frames in the order in which `shares` devices have them."""
    batch, count, *rest = tokens.shape
    parts = tokens.reshape(batch, frames, shares, count // (frames * shares), *rest)
    return jnp.swapaxes(parts, 1, 2).reshape(tokens.shape)


def collected(
    tokens: Float[Array, "batch tokens values"], frames: int, shares: int
) -> Float[Array, "batch tokens values"]:
    """Returns the tokens in order of frames again; the inverse of `dealt`."""
    batch, count, values = tokens.shape
    parts = tokens.reshape(batch, shares, frames, count // (frames * shares), values)
    return jnp.swapaxes(parts, 1, 2).reshape(tokens.shape)


def largest(sigma: Sigma, patch: tuple[int, int, int]) -> Float[Array, "batch f h w"]:
    """Returns the largest time within each patch: it is as noisy as the noisiest of its places.

    Times are not negative. Axes of size 1 stay so.
    """
    return _blocks(sigma[..., None], patch, keep_single=True).max(axis=(4, 5, 6, 7))


def every(
    flag: Bool[Array, "batch #latent_frames #latent_height #latent_width"],
    patch: tuple[int, int, int],
) -> Bool[Array, "batch f h w"]:
    """Returns where a flag holds in every place of a patch. Axes of size 1 stay so."""
    return ~_blocks(~flag[..., None], patch, keep_single=True).any(axis=(4, 5, 6, 7))


def _blocks(
    x: Num[Array, "..."] | Bool[Array, "..."],
    patch: tuple[int, int, int],
    *,
    keep_single: bool = False,
) -> Array:
    """Returns [batch, *grid, *patch, channels] of [batch, frames, height, width, channels].

    With `keep_single` an axis of size 1 stands for all places and is not patched.
    """
    steps = [1 if keep_single and x.shape[i] == 1 else patch[i - 1] for i in _GRID]
    grid = [-(-x.shape[i] // steps[i - 1]) for i in _GRID]
    ends = [(0, grid[i] * steps[i] - x.shape[i + 1]) for i in range(3)]
    x = jnp.pad(x, [(0, 0), *ends, (0, 0)]) if any(end for _, end in ends) else x
    f, h, w = zip(grid, steps, strict=True)
    return x.reshape(x.shape[0], *f, *h, *w, x.shape[-1]).transpose(0, 1, 3, 5, 2, 4, 6, 7)
