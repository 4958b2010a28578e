"""A generator with random weights: what is given and where it comes out does not depend on them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.arrays import Size
from sora_jax.data.captions import Bytes
from sora_jax.generation.domain import Domain
from sora_jax.generation.loading import smallest_batch
from sora_jax.generation.pipeline import Pipeline
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.dit import DiT
from sora_jax.models.text import ByteEncoder
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import NoiseField

FAST = {"steps": 2, "guidance": 2.0}
"""Settings of a quick sampling."""


@functools.cache
def untrained(*, frames: int = 0) -> Pipeline:
    """A pipeline of latents of 4 x 8 x 8 pixels, whose longest clips had so many frames."""
    vae = BlockVAE(width=8, hidden=4, blocks=1, latent_channels=8, deblock=32.0)
    text = Bytes(length=16)
    denoiser = Denoising(
        model=DiT(width=16, depth=1, heads=2, mlp=32, latent_channels=8, text_width=8),
        text=ByteEncoder(width=8, depth=1, heads=1, length=16),
        levels=NoiseField(),
    )
    batch = smallest_batch(vae, text)
    key = jax.random.key(0)
    return Pipeline(
        denoiser=denoiser,
        params=_random(jax.jit(lambda: denoiser.init(key, batch))(), noise=0.1),
        vae=vae,
        vae_params=_random(
            jax.jit(lambda: vae.init(key, jnp.zeros((1, 5, 16, 16, 3))))()["params"],
            noise=0.01,
            keep=("transform", "latent"),
        ),
        tokenizer=text,
        fps=8.0,
        source="untrained",
        domain=Domain(sizes=(Size(frames, 64, 64),) if frames else ()),
    )


def _random(params, *, noise: float, keep: tuple[str, ...] = ()):
    """Unboxed parameters with a little noise, but for those of some names."""
    rng = np.random.default_rng(0)

    def noisy(path, leaf):
        kept = any(name in jax.tree_util.keystr(path) for name in keep)
        return np.asarray(leaf) + (0 if kept else rng.normal(0, noise, leaf.shape).astype("f"))

    return jax.tree_util.tree_map_with_path(noisy, jax.tree.map(_value, params, is_leaf=_boxed))


def _boxed(leaf) -> bool:
    return hasattr(leaf, "unbox")


def _value(leaf):
    return leaf.unbox() if _boxed(leaf) else leaf


def clip(frames: int, height: int = 16, width: int = 24, *, seed: int = 0) -> np.ndarray:
    """A smooth clip in motion, uint8 [frames, height, width, 3]."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, 3)
    t, y, x = np.ogrid[:frames, :height, :width]
    waves = [np.sin(0.2 * t + 0.15 * y + 0.05 * (i + 1) * x + phase[i]) for i in range(3)]
    return (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def same(one: np.ndarray, other: np.ndarray, *, within: int = 1) -> bool:
    """Whether pixels are equal but for rounding."""
    return one.shape == other.shape and np.abs(one.astype(int) - other).max() <= within


GRID = Size(3, 2, 3)
