"""Predictions: any one into any other, and what their errors count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.prediction import (
    Clean,
    CleanDetail,
    EDMPreconditioned,
    MinSNR,
    Noise,
    Unweighted,
    V,
    Velocity,
    VelocityWeighted,
    convert,
)
from sora_jax.diffusion.schedules import EDM, CosineDDPM, LinearDDPM, RectifiedFlow
from tests.diffusion.gaussian import SCHEDULES

KINDS = ("rectified", "edm", "linear", "cosine zero")
every_schedule = pytest.mark.parametrize("schedule", [SCHEDULES[k] for k in KINDS], ids=KINDS)


def suited(schedule):
    kinds = [Velocity(), Clean(), CleanDetail(), V()]
    if not schedule.zero_terminal_snr:
        kinds.append(Noise())
    if isinstance(schedule, EDM):
        kinds.append(EDMPreconditioned())
    return kinds


def parts(shape=(7, 1, 2, 2, 3)):
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)))


@every_schedule
def test_predictions_turn_into_one_another_all_the_way_round(schedule):
    kinds = suited(schedule)
    t = np.array([1e-3, 0.02, 0.2, 0.5, 0.8, 0.99, 1.0])[:, None, None, None]

    @jax.jit
    def round_trip(clean, noise, t):
        x = schedule.mix(clean, noise, t)
        wanted = [kind.target(clean, noise, t, schedule) for kind in kinds]
        said, found = wanted[0], []
        for source, destination in zip(kinds, [*kinds[1:], kinds[0]], strict=True):
            said = convert(said, x, t, schedule=schedule, source=source, destination=destination)
            found.append(said)
        return found, [*wanted[1:], wanted[0]]

    with jax.enable_x64(True):
        for found, wanted in zip(*round_trip(*parts(), jnp.asarray(t)), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


@every_schedule
def test_estimates_are_finite_and_add_up_at_both_ends_whatever_the_model_says(schedule):
    x, output = parts()
    t = jnp.array([0.0, 1e-6, 1e-3, 0.5, 0.999, 1 - 1e-6, 1.0])[:, None, None, None]

    @jax.jit
    def split(output, x):
        for_all = [kind.estimate(output, x, t, schedule) for kind in suited(schedule)]
        return [(found, schedule.mix(found.clean, found.noise, t)) for found in for_all]

    for found, again in jax.tree.map(np.asarray, split(output, x)):
        assert np.all(np.isfinite(found.clean)) and np.all(np.isfinite(found.noise))
        # Not at t = 0, where a clean prediction may contradict x. Parts may be far larger than x.
        assert np.all(np.abs(again - x)[1:] < 2e-6 * np.maximum(1, np.abs(found.clean))[1:])


@every_schedule
def test_velocity_and_v_know_the_clean_data_even_where_none_is_left(schedule):
    clean, noise = parts()

    @jax.jit
    def recover(clean, noise):
        x, found = schedule.mix(clean, noise, 1.0), []
        for kind in (Velocity(), V(), Clean()):
            said = kind.target(clean, noise, 1.0, schedule)
            found.append(kind.estimate(said, x, 1.0, schedule))
        return found

    for found in recover(clean, noise):
        np.testing.assert_allclose(found.clean, clean, atol=2e-5)
        np.testing.assert_allclose(found.noise, noise, atol=2e-5)


def test_noise_prediction_at_zero_terminal_snr_is_refused_with_the_remedy():
    x = jnp.zeros((1, 2))
    for schedule in SCHEDULES.values():
        if schedule.zero_terminal_snr:
            with pytest.raises(ValueError, match=r"signal is 0 at t = 1.*predict Velocity"):
                Noise().estimate(x, x, 0.5, schedule)
            with pytest.raises(ValueError, match=type(schedule).__name__):
                Noise().check(schedule)
        else:
            Noise().check(schedule)


def test_edm_preconditioning_needs_edm():
    with pytest.raises(ValueError, match="needs the EDM schedule, not RectifiedFlow"):
        EDMPreconditioned().check(RectifiedFlow())


def test_edm_preconditioning_is_the_papers():
    schedule, data, kind = EDM(), 0.5, EDMPreconditioned()
    with jax.enable_x64(True):
        t = jnp.linspace(0.01, 1.0, 20)
        x, output = np.random.default_rng(1).normal(size=(2, 20))
        read = jax.jit(
            lambda x, output: (
                schedule.noise(t),
                kind.estimate(output, x, t, schedule).clean,
                *kind.coefficients(t, schedule),
            )
        )
        sigma, found, p, q = jax.tree.map(np.asarray, read(jnp.asarray(x), jnp.asarray(output)))
        skip = data**2 / (sigma**2 + data**2)
        out = sigma * data / np.sqrt(sigma**2 + data**2)
        np.testing.assert_allclose(found, skip * x + out * output, rtol=1e-9, atol=1e-12)
        # Its target has unit variance, and its plain error is the paper's weighted one.
        np.testing.assert_allclose((p * data) ** 2 + q**2, 1, rtol=1e-9)
        np.testing.assert_allclose(1 / out**2, (sigma**2 + data**2) / (sigma * data) ** 2)


def weigh(weighting, t, prediction, schedule):
    weight = jax.jit(lambda t: weighting.weight(t, prediction=prediction, schedule=schedule))
    return np.asarray(weight(jnp.asarray(t)))


def snr(schedule, t):
    return (schedule.signal(t) / schedule.noise(t)) ** 2


@pytest.mark.parametrize("schedule", [LinearDDPM(), CosineDDPM()])
def test_min_snr_is_the_papers_for_noise_clean_and_v(schedule):
    with jax.enable_x64(True):
        t = np.linspace(0.01, 0.99, 50)
        ratio = np.asarray(jax.jit(lambda t: snr(schedule, t))(t))
        least = np.minimum(ratio, 5.0)
        expected = ((Noise(), least / ratio), (Clean(), least), (V(), least / (ratio + 1)))
        for prediction, weight in expected:
            found = weigh(MinSNR(gamma=5.0), t, prediction, schedule)
            np.testing.assert_allclose(found, weight, rtol=1e-6)


def test_velocity_weight_makes_clean_errors_those_of_the_velocity():
    schedule, t = RectifiedFlow(), np.array([0.0, 0.01, 0.05, 0.3, 1.0])
    weight = weigh(VelocityWeighted(floor=0.05), t, Clean(), schedule)
    np.testing.assert_allclose(weight, 1 / np.maximum(t, 0.05) ** 2, rtol=1e-6)
    own = weigh(VelocityWeighted(), t, Velocity(), schedule)
    np.testing.assert_allclose(own, 1, rtol=1e-6)


@every_schedule
def test_weights_are_finite_at_both_ends_and_plain_errors_count_one(schedule):
    families = (Unweighted(), MinSNR(), VelocityWeighted())

    @jax.jit
    def weights(t):
        return [
            [one.weight(t, prediction=kind, schedule=schedule) for kind in suited(schedule)]
            for one in families
        ]

    found = jax.tree.map(np.asarray, weights(jnp.array([0.0, 1e-6, 0.5, 1.0])))
    assert np.all(np.isfinite(found)) and np.all(np.stack(jax.tree.leaves(found)) >= 0)
    np.testing.assert_array_equal(found[0], 1)


def test_detail_is_handed_on_where_noise_is_less_and_told_whole_where_it_is_more():
    kind, schedule = CleanDetail(detail=0.2), RectifiedFlow()
    clean, noise = parts((2, 1, 8, 8, 3))
    t = jnp.array([0.01, 0.9])[:, None, None, None]
    x = schedule.mix(clean, noise, t)
    nothing = kind.estimate(jnp.zeros_like(x), x, t, schedule).clean
    error = jnp.sqrt(jnp.mean((nothing - clean) ** 2, axis=(1, 2, 3, 4)))
    assert error[0] < 0.012 and error[1] > 0.9
    # An error of the output counts for as much, and for as little.
    wrong = kind.estimate(jnp.full_like(x, 0.1), x, t, schedule).clean - nothing
    np.testing.assert_allclose(wrong[0], 0.1 * 0.01 / np.hypot(0.01, 0.99 * 0.2), rtol=1e-4)
    np.testing.assert_allclose(wrong[1], 0.1, rtol=0.01)
