"""Promises of the alternatives to the noise field: what they are shown, and that both can learn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.arrays import Batch, Size, Text
from sora_jax.baselines.concatenation import Concatenated, ConcatenatedField
from sora_jax.diffusion.times import Uniform
from sora_jax.models.dit import DiT
from sora_jax.models.text import LabelEncoder
from sora_jax.objectives.levels import Levels, NoiseField

CHANNELS = 4
SETTINGS: dict[str, Any] = {
    "model": DiT(
        width=16, depth=1, heads=2, mlp=16, latent_channels=2 * CHANNELS + 1, text_width=3
    ),
    "text": LabelEncoder(classes=5, width=3),
    "times": Uniform(),
    "levels": NoiseField(given=1.0, free=0.0, dropped=0.0, noised=0.0),
    "factor": Size(4, 2, 2),
}
KINDS = (Concatenated, ConcatenatedField)


def latents(seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 3, 2, 2, CHANNELS)), jnp.float32)


def batch_of() -> Batch:
    return Batch(
        video=None,
        latent=latents(0),
        extent=jnp.array([[9, 4, 4], [9, 4, 4]]),
        text=Text(tokens=jnp.zeros((2, 1), int), length=jnp.ones(2, int)),
        weight=jnp.ones(2),
    )


FIRST = jnp.zeros((2, 3, 1, 1), bool).at[:, 0].set(True)
LEVELS = Levels(t=jnp.where(FIRST, 0.0, 0.7), known=FIRST, from_spans=jnp.zeros(2, bool))


def test_given_frames_stand_beside_noise() -> None:
    given, noise = latents(0), latents(1)
    x, t, beside = Concatenated(**SETTINGS).shown(given, noise, LEVELS)
    assert beside is not None and beside.shape[-1] == CHANNELS + 1
    np.testing.assert_array_equal(t, jnp.full_like(LEVELS.t, 0.7))
    np.testing.assert_allclose(x, 0.3 * given + 0.7 * noise, atol=1e-6)
    np.testing.assert_array_equal(beside[:, 0, ..., :-1], given[:, 0])
    assert (beside[:, 0, ..., -1] == 1).all() and (beside[:, 1:] == 0).all()


def test_the_field_is_shown_them_in_both_ways() -> None:
    given, noise = latents(0), latents(1)
    x, t, beside = ConcatenatedField(**SETTINGS).shown(given, noise, LEVELS)
    assert beside is not None
    np.testing.assert_array_equal(t, LEVELS.t)
    np.testing.assert_array_equal(x[:, 0], given[:, 0])
    np.testing.assert_array_equal(beside[:, 0, ..., :-1], given[:, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_estimates_are_of_the_latents_alone(kind: Any) -> None:
    objective = kind(**SETTINGS)
    batch = batch_of()
    shapes = jax.eval_shape(objective.init, jax.random.key(0), batch)
    loss, _ = jax.eval_shape(objective.loss, shapes, jax.random.key(0), batch, 0)
    assert loss.shape == ()

    def estimate(params: Any) -> Any:
        condition = objective.condition(params, batch.text)
        return objective.estimator(params, condition, known=FIRST)(latents(0), jnp.float32(0.5))

    assert jax.eval_shape(estimate, shapes).clean.shape == latents(0).shape
