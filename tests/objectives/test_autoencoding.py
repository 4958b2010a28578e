"""Promises of the autoencoder's training: one loss, two players, only what is valid counts."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Batch, Size, Text
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.discriminator import PatchDiscriminator
from sora_jax.models.perceptual import pyramid_l1, row_mean
from sora_jax.objectives.autoencoding import (
    Autoencoding,
    Totals,
    pixels,
    psnr,
    with_statistics,
)

FLAT = BlockVAE(width=6, hidden=4, blocks=1, latent_channels=3, block=Size(1, 2, 2))
PLAIN = Autoencoding(vae=FLAT)
GAME = Autoencoding(
    vae=FLAT,
    discriminator=PatchDiscriminator(width=4, levels=1),
    adversarial=0.5,
    adversarial_start=10,
    adversarial_ramp=4,
)
SIZE = (2, 4, 6)


def batch_of(*extents: tuple[int, int, int], size: tuple[int, int, int] = SIZE) -> Batch:
    rows = len(extents)
    video = np.zeros((rows, *size, 3), np.uint8)
    for row, (f, h, w) in enumerate(extents):
        clip = np.random.default_rng(row).integers(0, 256, (*SIZE, 3), np.uint8)
        video[row, :f, :h, :w] = clip[:f, :h, :w]
    return Batch(
        video=jnp.asarray(video),
        latent=None,
        extent=jnp.array(extents),
        text=Text(tokens=jnp.zeros((rows, 1), int), length=jnp.ones(rows, int)),
        weight=jnp.array([float(f > 0) for f, _, _ in extents]),
    )


@functools.cache
def params() -> Any:
    """Random parameters; the posterior is so narrow that its noise, which padding changes, is 0."""
    shapes = nn.meta.unbox(jax.eval_shape(GAME.init, jax.random.key(0), batch_of(SIZE)))

    def fill(leaf: Any) -> Any:
        values = np.random.default_rng(leaf.size).uniform(-1, 1, leaf.shape)
        scale = 1.7 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.3
        return jnp.asarray(scale * values + (len(leaf.shape) == 1), jnp.float32)

    filled = jax.tree.map(fill, shapes)
    narrow = jnp.array([0.0, 0.0, 0.0, -40.0, -40.0, -40.0])
    filled["vae"]["encoder"]["out"]["bias"] = narrow
    return filled


@functools.partial(jax.jit, static_argnums=0)
def outcome(objective: Autoencoding, params: Any, batch: Batch, step: Any) -> Any:
    return jax.value_and_grad(objective.loss, has_aux=True)(params, jax.random.key(1), batch, step)


def measured(objective: Autoencoding, batch: Batch, step: int = 13) -> Any:
    """What `outcome` has without the gradient, which takes most of its compiling."""
    return jax.jit(objective.loss)(params(), jax.random.key(1), batch, step)


encode = jax.jit(PLAIN.encode)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b)


@pytest.mark.slow
def test_each_players_gradient_is_the_one_it_has_alone() -> None:
    batch = batch_of(SIZE, (1, 4, 5))
    video, extent = pixels(batch), batch.extent
    judge: Any = GAME.discriminator

    def judged(discriminator: Any, clip: Any, score: Any) -> Any:
        logits, valid = judge.apply({"params": discriminator}, clip, extent)
        rows = jnp.sum(score(logits) * valid, (1, 2, 3)) / jnp.sum(valid, (1, 2, 3))
        return jnp.mean(rows)

    def reconstructed(vae: Any) -> Any:
        clip: Any = GAME.vae.apply({"params": vae}, video, extent)
        return clip[0]

    def deceiver(vae: Any, discriminator: Any) -> Any:
        return judged(discriminator, reconstructed(vae), jnp.negative), reconstructed(vae)

    def detective(discriminator: Any, clip: Any) -> Any:
        real = judged(discriminator, video, lambda logits: jnp.maximum(1 - logits, 0))
        return real + judged(discriminator, clip, lambda logits: jnp.maximum(1 + logits, 0))

    p = params()
    before, during = (outcome(GAME, p, batch, step)[1] for step in (9, 12))
    vae, clip = jax.jit(jax.grad(deceiver, has_aux=True))(p["vae"], p["discriminator"])
    discriminator = jax.jit(jax.grad(detective))(p["discriminator"], clip)
    close(during["discriminator"], discriminator, 1e-4)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(discriminator))
    # What the game adds to the autoencoder's gradient, at half its weight of 0.5 by now.
    added = jax.tree.map(jnp.subtract, during["vae"], before["vae"])
    close(added, jax.tree.map(lambda leaf: 0.25 * leaf, vae), 1e-4)


def test_squared_error_counts_by_its_weight() -> None:
    batch = batch_of(SIZE, (1, 4, 5))
    plain, metrics = measured(GAME, batch)
    loss, _ = measured(dataclasses.replace(GAME, squared=3.0), batch)
    assert metrics["l2/sum"] > 0
    close(loss - plain, 3.0 * metrics["l2/sum"] / metrics["l2/count"], 1e-4)


def test_before_its_start_the_discriminator_is_not_there() -> None:
    (loss, metrics), gradient = outcome(GAME, params(), batch_of(SIZE, (1, 4, 5)), 9)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient["discriminator"]))
    assert metrics["discriminator/count"] == 0
    mean = {name: metrics[f"{name}/sum"] / 2 for name in ("l1", "multiscale", "kl")}
    close(loss, mean["l1"] + mean["multiscale"] + 1e-4 * mean["kl"])
    # Of a variance clipped at exp(-30): (mean^2 - 1 + 30) / 2 nats, at least 14.5.
    assert mean["kl"] > 14.5
    assert metrics["l1/count"] == 2


def test_padding_and_empty_rows_change_no_loss() -> None:
    small = (1, 3, 5)
    padded, alone = batch_of(small, (0, 0, 0)), batch_of(small, size=small)
    close(measured(GAME, padded), measured(GAME, alone), 1e-4)


def test_an_empty_batch_has_no_loss_and_no_nan() -> None:
    (loss, metrics), gradient = outcome(GAME, params(), batch_of((0, 0, 0), (0, 0, 0)), 13)
    assert loss == 0
    assert all(leaf == 0 for name, leaf in metrics.items() if name.endswith("/count"))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def test_pixels_span_minus_one_to_one() -> None:
    batch = dataclasses.replace(batch_of(SIZE), video=jnp.array([[[[[0, 255, 51]]]]], jnp.uint8))
    close(pixels(batch).ravel(), [-1, 1, -0.6])
    with pytest.raises(ValueError, match=r"batch\.video is None"):
        pixels(dataclasses.replace(batch, video=None))


def test_psnr_is_of_the_clipped_reconstruction_over_valid_pixels() -> None:
    video = jnp.ones((3, 1, 2, 2, 3))
    wrong = video.at[0].add(5.0).at[1].add(-0.2).at[1, :, 1].set(jnp.nan)
    found = jax.jit(psnr)(video, wrong, jnp.array([[1, 2, 2], [1, 1, 2], [0, 0, 0]]))
    close(found, [100.0, 20.0, 100.0])


def test_row_means_leave_padding_out() -> None:
    values = jnp.array([1.0, 3.0, jnp.nan]).reshape(1, 1, 1, 3, 1)
    rows = jnp.concatenate([values, values])
    assert jax.jit(row_mean)(rows, jnp.array([[1, 1, 2], [0, 0, 0]])).tolist() == [2.0, 0.0]


def test_the_pyramid_counts_every_band_alike() -> None:
    extent, video = jnp.array([[1, 8, 8]]), jnp.zeros((1, 1, 8, 8, 3))
    signs = jnp.where((jnp.arange(8)[:, None] + jnp.arange(8)) % 2, 1.0, -1.0)[..., None]
    pyramid = jax.jit(functools.partial(pyramid_l1, levels=2))
    # A checkerboard lies in the finest of three bands alone, a constant in the coarsest.
    close(pyramid(video, video + signs, extent), [1 / 3])
    close(pyramid(video, video + 1, extent), [1 / 3])
    close(pyramid(video, video, extent), [0])


def test_the_pyramid_is_blind_to_padding() -> None:
    video, other = np.random.default_rng(0).normal(size=(2, 1, 2, 5, 7, 3)).astype(np.float32)
    pyramid = jax.jit(pyramid_l1)
    alone = pyramid(video, other, jnp.array([[2, 5, 7]]))
    pad = functools.partial(
        np.pad, pad_width=((0, 1), (0, 1), (0, 3), (0, 4), (0, 0)), constant_values=np.nan
    )
    among = pyramid(pad(video), pad(other), jnp.array([[2, 5, 7], [0, 0, 0]]))
    close(among, [alone[0], 0])


def test_statistics_are_those_of_the_valid_latents() -> None:
    batches = [batch_of(SIZE, (0, 0, 0)), batch_of((1, 4, 5), (2, 2, 2))]
    vae = {"vae": params()["vae"]}
    statistics = jax.jit(PLAIN.statistics)
    totals = statistics(vae, batches[0]) + statistics(vae, batches[1])
    boxes = [(0, 0, SIZE), (1, 0, (1, 4, 5)), (1, 1, (2, 2, 2))]

    def latents(params: Any) -> np.ndarray:
        latents = [encode(params, batch) for batch in batches]
        cut = [latents[n][row, :f, : -(-h // 2), : -(-w // 2)] for n, row, (f, h, w) in boxes]
        return np.concatenate([np.asarray(x).reshape(-1, 3) for x in cut])

    raw = latents({"vae": {**vae["vae"], "latent_mean": jnp.zeros(3), "latent_std": jnp.ones(3)}})
    assert totals.count == len(raw)
    measured = with_statistics(vae, totals)
    close(measured["vae"]["latent_mean"], raw.mean(0), 1e-4)
    close(measured["vae"]["latent_std"], raw.std(0), 1e-3)
    normal = latents(measured)
    close(normal.mean(0), np.zeros(3), 1e-3)
    close(normal.std(0), np.ones(3), 1e-3)


def test_statistics_of_nothing_are_refused() -> None:
    nothing = Totals(count=jnp.zeros(()), sum=jnp.zeros(3), squares=jnp.zeros(3))
    with pytest.raises(ValueError, match="no valid latent was counted"):
        with_statistics(params(), nothing)


def test_encoded_latents_are_zero_beyond_the_extent() -> None:
    latent = encode(params(), batch_of((1, 2, 3), (0, 0, 0)))
    assert (latent[0, :1, :1, :2] != 0).all()
    assert (latent.at[0, :1, :1, :2].set(0) == 0).all()
