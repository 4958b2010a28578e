"""How well an autoencoder gives back what it was shown."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from sora_jax.arrays import Latent, Size
from sora_jax.evaluation.frames import psnr, ssim
from sora_jax.generation.devices import Devices
from sora_jax.generation.pixels import to_uint8
from sora_jax.models.autoencoder import Autoencoder

Frames = UInt8[ndarray, "frames height width 3"]


def reconstructed(vae: Autoencoder, params: Any, frames: Frames) -> Frames:
    """Returns the decoding of the encoding of a clip of any size.

    Sizes that the autoencoder does not divide are grown by repeating edges, and cut back.
    """
    devices = Devices.ambient()
    with devices.use_for_pictures(vae.latent_size(Size(*frames.shape[:3])), begins=True):
        copy = _reconstructed(vae, params, devices.everywhere(frames[None]))
    return np.asarray(devices.everywhere(copy))[0]


def encoded(vae: Autoencoder, params: Any, frames: Frames) -> Latent:
    """Returns the normalised latents [1, ...] of a clip of any size."""
    return _encoded(vae, params, frames[None])


def fidelity(original: Frames, copy: Frames) -> dict[str, float]:
    """Returns the mean `psnr` (dB) and `ssim` over frames."""
    return {
        "psnr": float(psnr(original, copy).mean()),
        "ssim": float(ssim(original, copy).mean()),
    }


def from_uint8(video: Any) -> Float[jax.Array, "batch frames height width 3"]:
    """Returns pixels of 0..255 as -1..1."""
    return jnp.asarray(video, jnp.float32) / 127.5 - 1


@functools.partial(jax.jit, static_argnums=0)
def _reconstructed(vae: Autoencoder, params: Any, video: Any) -> Any:
    copy, _ = vae.apply({"params": params}, from_uint8(video))
    return to_uint8(copy)


@functools.partial(jax.jit, static_argnums=0)
def _encoded(vae: Autoencoder, params: Any, video: Any) -> Any:
    posterior: Any = vae.apply({"params": params}, from_uint8(video), method="encode")
    return vae.apply({"params": params}, posterior.mean, method="normalise")


def whole_frames(frames: Frames, factor: Size) -> UInt8[np.ndarray, "whole_frames height width 3"]:
    """Returns the first 1 + k `factor.frames` frames of a clip."""
    return frames[: 1 + (len(frames) - 1) // factor.frames * factor.frames]
