"""Promises of the Fréchet distance: its closed forms, and its floor."""

from __future__ import annotations

import numpy as np
import pytest

from sora_jax.evaluation.broken import broken
from sora_jax.evaluation.frechet import frechet_distance, latent_distance, latent_features
from sora_jax.evaluation.suite import cases
from sora_jax.evaluation.suites import SUITES


def test_it_is_that_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    some, others = (rng.normal(size=(200_000, 2)) for _ in range(2))
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-9)
    # Means (3, 0) apart; deviations 1 and 2 along the second axis, then correlated.
    assert frechet_distance(some, others + np.array([3, 0])) == pytest.approx(9, rel=0.01)
    assert frechet_distance(some, others * [1, 2]) == pytest.approx(1, rel=0.03)
    mixed = others @ np.array([[1.0, 0.0], [1.0, 1.0]])
    root = np.sqrt(np.linalg.eigvals(np.cov(some.T) @ np.cov(mixed.T)).real).sum()
    traces = np.trace(np.cov(some.T)) + np.trace(np.cov(mixed.T))
    assert frechet_distance(some, mixed) == pytest.approx(traces - 2 * root, abs=1e-3)


def test_one_clip_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="set of 1 clip"):
        frechet_distance(np.zeros((1, 2), np.float32), np.zeros((3, 2), np.float32))


@pytest.mark.slow
def test_other_worlds_and_broken_clips_are_farther_than_fresh_ones() -> None:
    def clips(name: str, seed: int) -> list[np.ndarray]:
        return [case.frames() for case in cases(SUITES[name], 150, seed=seed)]

    sprites, fresh = clips("text", 0), clips("text", 1)
    reference = latent_features(fresh)
    assert reference.shape[1] % 3 == 0
    floor = latent_distance(latent_features(sprites), reference)
    for others in (clips("falling", 0), broken(sprites, "frozen", seed=0)):
        assert latent_distance(latent_features(others), reference) > 3 * floor


def test_a_picture_has_features_too() -> None:
    (found,) = latent_features([np.zeros((1, 64, 64, 3), np.uint8)])
    assert np.isfinite(found).all() and not found[-len(found) // 3 :].any()
