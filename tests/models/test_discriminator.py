"""Promises of the patch discriminator: masked by extent, causal, an image is a clip."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.models.discriminator import PatchDiscriminator

JUDGE = PatchDiscriminator(width=4, levels=2)


def clip(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@functools.cache
def params() -> Any:
    shapes = nn.meta.unbox(jax.eval_shape(JUDGE.init, jax.random.key(0), clip(1, 1, 8, 8, 3)))
    return jax.tree.map(lambda leaf: 0.5 * clip(*leaf.shape, seed=leaf.size), shapes)


@jax.jit
def judged(params: Any, video: Any, extent: Any = None) -> Any:
    return JUDGE.apply(params, video, extent)


def test_each_patch_has_a_logit() -> None:
    logits, valid = judged(params(), clip(2, 3, 8, 12, 3))
    assert logits.shape == valid.shape == (2, 3, 2, 3)
    assert valid.all()


def test_padding_never_changes_the_valid_logits_and_empty_rows_have_none() -> None:
    video = clip(1, 2, 5, 7, 3)
    alone, _ = judged(params(), video, jnp.array([[2, 5, 7]]))
    box = np.full((2, 3, 8, 12, 3), np.nan, np.float32)
    box[0, :2, :5, :7] = video[0]
    logits, valid = judged(params(), box, jnp.array([[2, 5, 7], [0, 0, 0]]))
    np.testing.assert_allclose(logits[:1, :2, :2, :2], alone, 1e-5, 1e-5)
    assert jnp.isfinite(logits).all()
    assert valid[0].sum() == alone.size
    assert not valid[1].any()


def test_an_image_is_judged_as_the_first_frame() -> None:
    video = clip(1, 3, 8, 12, 3)
    whole, _ = judged(params(), video)
    image, _ = judged(params(), video[:, :1])
    np.testing.assert_allclose(image, whole[:, :1], 1e-5, 1e-5)


def test_a_patch_sees_motion_not_frames_alone() -> None:
    video = clip(1, 3, 8, 12, 3)
    still = np.repeat(video[:, 2:], 3, axis=1)
    moving, _ = judged(params(), video)
    frozen, _ = judged(params(), still)
    assert not np.allclose(moving[:, 2], frozen[:, 2], atol=1e-3)
