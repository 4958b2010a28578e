"""The memory of sampling."""

from __future__ import annotations

from sora_jax.arrays import Size
from sora_jax.models.accounting.autoencoder import autoencoder, decoding
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
) -> int:
    """Returns the bytes at the peak of sampling `batch` clips of `size` pixels together.

    The parameters of both, and the greater of a step (which makes two `estimates` of each clip with
    guidance) and the decoder, which takes `latents_at_once` latent frames.
    """
    step = transformer(model, vae.latent_size(size), text=text, batch=batch * estimates)
    frames = min(size.frames, vae.pixel_size(Size(latents_at_once + 1, 1, 1)).frames)
    last = decoding(vae, size._replace(frames=frames), batch=batch)
    parameters = step.parameter_bytes + autoencoder(vae, size).parameter_bytes
    return parameters + max(step.working_bytes, last.working_bytes)
