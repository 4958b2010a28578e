"""The memory of sampling."""

from __future__ import annotations

from sora_jax.arrays import Size
from sora_jax.models.accounting.autoencoder import autoencoder, decoding
from sora_jax.models.accounting.cost import WIDE
from sora_jax.models.accounting.transformer import transformer
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.models.dit import DiT


def sampling_bytes(
    model: DiT,
    vae: Autoencoder,
    size: Size,
    *,
    text: int,
    latents_at_once: int,
    batch: int = 1,
    estimates: int = 1,
    tile: int | None = None,
) -> int:
    """Returns the bytes at the peak of sampling `batch` clips of `size` pixels together.

    The parameters of both, and the greater of a step (which makes two `estimates` of each clip with
    guidance) and the decoder; see `decoder_bytes`.
    """
    step = transformer(model, vae.latent_size(size), text=text, batch=batch * estimates)
    last = decoder_bytes(vae, size, latents_at_once=latents_at_once, batch=batch, tile=tile)
    parameters = step.parameter_bytes + autoencoder(vae, size).parameter_bytes
    return parameters + max(step.working_bytes, last)


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
