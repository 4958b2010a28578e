"""The memory of decoding what was sampled."""

from __future__ import annotations

from sora_jax.arrays import Size
from sora_jax.models.accounting.autoencoder import decoding
from sora_jax.models.accounting.cost import WIDE
from sora_jax.models.autoencoder import Autoencoder


def decoder_bytes(
    vae: Autoencoder,
    size: Size,
    *,
    latents_at_once: int,
    batch: int = 1,
    tile: int | None = None,
) -> int:
    """Returns the bytes at the peak of a decoder that takes `latents_at_once` latent frames.

    Of a picture whose sides are longer than `tile` latents it takes so many at a time, and blends
    them in float32.
    """
    frames = min(size.frames, vae.pixel_size(Size(latents_at_once + 1, 1, 1)).frames)
    side = max(size) if tile is None else tile * vae.factor.height
    part = Size(frames, min(size.height, side), min(size.width, side))
    blended = 0 if part[1:] == size[1:] else 3 * 3 * batch * frames * size.height * size.width
    return decoding(vae, part, batch=batch).working_bytes + WIDE * blended
