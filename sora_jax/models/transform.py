"""A linear code of each spacetime block of pixels, which starts as a cosine transform.

The block of pixels that one latent place stands for, frames x height x width x 3 numbers, is
multiplied by a matrix of `features` columns, and comes back through another. Both are learnt, and
both start with the columns that keep most of natural video: the Karhunen-Loeve transform of a
separable first-order Markov field is, but for a few per cent, the discrete cosine transform
(Ahmed, Natarajan, Rao 1974; Clarke 1981), whose `features` strongest components under the
correlations below are taken.

An orthonormal matrix mixes the components, so that each number has a like share of the strong and
of the weak ones, and all together one scale. A number for each component would be a poor thing to
diffuse: normalised to the same variance, fine detail would weigh as much as the mean, and noise
would hide both at once, where in pictures it hides detail first (arXiv 2502.14831).

The first frame of a clip is coded alone: as a block in which it stands still.
"""

from __future__ import annotations

import functools
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.spmd import with_logical_partitioning
from jaxtyping import Array, Float
from numpy import ndarray

from sora_jax.arrays import Latent, Size, Video

CORRELATIONS = (0.97, 0.95, 0.95, 0.9)
"""Between neighbours in time, height and width, and between colours."""

DEVIATION = 0.5
"""Of pixels in -1..1."""


class BlockTransform(nn.Module):
    """Blocks of `factor` pixels in -1..1 to `features` numbers each, and back."""

    factor: Size
    features: int

    def setup(self) -> None:
        atoms, deviations = cosine_atoms(self.factor, self.features)
        mixed = atoms @ _cosine_basis(self.features, 0.0)[0]
        scale = np.sqrt(np.mean(deviations**2))
        kernels = {"analysis": mixed / scale, "synthesis": scale * mixed.T}
        for name, kernel in kernels.items():
            axes = ("channels_in", "channels_out")
            initial = with_logical_partitioning(_constant(kernel), axes)
            setattr(self, name, self.param(name, initial, kernel.shape, jnp.float32))

    def analyse(self, blocks: Float[Array, "batch f h w pixels"]) -> Latent:
        """Returns the code of blocks."""
        return blocks @ self.analysis

    def synthesise(self, latent: Latent) -> Float[Array, "batch f h w pixels"]:
        """Returns the blocks of codes."""
        return latent @ self.synthesis


def blocks_of(video: Video, block: Size, *, first: bool) -> Float[Array, "batch f h w pixels"]:
    """Returns each block of pixels as a vector, (frames, height, width, colours) slowest first.

    `first` says that the clip begins with these frames: then the first of them makes a block in
    which it stands still.
    """
    frames, height, width = block
    if first:
        still = jnp.repeat(video[:, :1], frames - 1, axis=1)
        video = jnp.concatenate([still, video], axis=1)
    return einops.rearrange(
        video, "b (f t) (h p) (w q) c -> b f h w (t p q c)", t=frames, p=height, q=width
    )


def pixels_of(
    blocks: Float[Array, "batch f h w pixels"], block: Size, *, first: bool
) -> Float[Array, "batch frames height width 3"]:
    """Returns the inverse of `blocks_of`; of the `first` block, the mean of its frames."""
    frames, height, width = block
    video = einops.rearrange(
        blocks,
        "b f h w (t p q c) -> b (f t) (h p) (w q) c",
        t=frames,
        p=height,
        q=width,
        c=3,
    )
    if not first:
        return video
    return jnp.concatenate([video[:, :frames].mean(1, keepdims=True), video[:, frames:]], axis=1)


@functools.cache
def cosine_atoms(
    factor: Size, features: int
) -> tuple[Float[ndarray, "pixels features"], Float[ndarray, "features"]]:
    """Returns the strongest atoms of the cosine transform of a block, and their deviations.

    Atoms are orthonormal columns over (frames, height, width, 3); the strongest comes first.
    """
    bases, variances = zip(
        *(
            _cosine_basis(length, correlation)
            for length, correlation in zip((*factor, 3), CORRELATIONS, strict=True)
        ),
        strict=True,
    )
    variance = functools.reduce(np.multiply.outer, variances).ravel()
    chosen = np.argsort(-variance, kind="stable")[:features]
    indices = np.unravel_index(chosen, [len(basis) for basis in bases])
    factors = [basis[index] for basis, index in zip(bases, indices, strict=True)]
    atoms = np.einsum("nt,np,nq,nc->tpqcn", *factors).reshape(-1, features)
    return atoms, DEVIATION * np.sqrt(variance[chosen])


def _cosine_basis(length: int, correlation: float) -> tuple[ndarray, ndarray]:
    """Rows of the orthonormal DCT-II, and their variances where neighbours correlate so."""
    n = np.arange(length)
    rows = np.cos(np.pi * np.outer(n, n + 0.5) / length)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    covariance = correlation ** np.abs(n[:, None] - n)
    return rows, np.einsum("kn,nm,km->k", rows, covariance, rows)


def _constant(value: ndarray) -> Any:
    return lambda key, shape, dtype: jnp.asarray(value, dtype)
