"""How far apart two sets of clips are as a whole: the latent Fréchet distance.

The Fréchet distance of two Gaussians fitted to features,

    |m - n|² + tr(C + D - 2 (C D)^1/2)                                        (arXiv 1706.08500),

where the features are ours: of a clip's latents, by the autoencoder that comes with the package,
for each channel the mean, the deviation, and the mean change from one latent frame to the next, in
units of their deviation over the reference clips. So it is neither FID nor FVD, and compares with
no number but its own. It is biased upwards where clips are few: what two sets of real clips are
apart is the floor to read it against.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sora_jax.data.worlds.world import Frames
from sora_jax.evaluation.reconstruction import encoded
from sora_jax.frozen import AUTOENCODER, read_frozen
from sora_jax.generation.loading import SHIPPED

Features = Float[ndarray, "clips features"]
Others = Float[ndarray, "others features"]


def latent_features(clips: Sequence[Frames]) -> Features:
    """Returns the features of clips of any size, three for each latent channel."""
    return np.stack([_features(clip) for clip in clips])


def latent_distance(some: Features, reference: Others) -> float:
    """Returns the latent Fréchet distance of clips from those of a reference, by their features."""
    scale = np.maximum(reference.std(0), 1e-6)
    return frechet_distance(some / scale, reference / scale)


def frechet_distance(some: Features, others: Others) -> float:
    """Returns the distance of the Gaussians of two sets. Raises ValueError for less than two."""
    for features in (some, others):
        if len(features) < 2:
            raise ValueError(f"a set of {len(features)} clips has no covariance; give more")
    means = some.mean(0) - others.mean(0)
    first, second = (np.cov(features, rowvar=False) for features in (some, others))
    # The eigenvalues of C D are those of the symmetric C^1/2 D C^1/2.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(means @ means + np.trace(first) + np.trace(second) - 2 * cross)


def _features(clip: Frames) -> Float[ndarray, " features"]:
    vae, params = _autoencoder()
    latent = np.asarray(encoded(vae, params, clip))[0]
    still = np.repeat(latent[:1], 2, axis=0) if len(latent) == 1 else latent
    change = np.abs(np.diff(still, axis=0)).mean((0, 1, 2))
    return np.concatenate([latent.mean((0, 1, 2)), latent.std((0, 1, 2)), change])


@functools.cache
def _autoencoder() -> tuple[Any, Any]:
    return read_frozen(SHIPPED / AUTOENCODER)
