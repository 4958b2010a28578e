"""Samplers on normal data, where the exact end of every path is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.multistep import DPMSolverPP, UniPC
from sora_jax.diffusion.prediction import Estimate, from_clean
from sora_jax.diffusion.samplers import DDIM, Ancestral, Euler, Heun
from sora_jax.diffusion.schedules import LinearDDPM, RectifiedFlow
from sora_jax.diffusion.times import grid
from tests.diffusion.gaussian import (
    MEAN,
    SCHEDULES,
    SPREAD,
    best,
    compiled,
    flow,
    guess,
    read,
    walk,
)

DETERMINISTIC = {
    "euler": Euler(),
    "heun": Heun(),
    "ddim": DDIM(),
    "dpm++": DPMSolverPP(),
    "unipc1": UniPC(order=1),
    "unipc2": UniPC(order=2),
    "unipc3": UniPC(order=3),
}
STOCHASTIC = {
    "ddim": DDIM(eta=1.0),
    "ancestral": Ancestral(),
    "ancestral upper": Ancestral(upper=1.0),
}
every_deterministic = pytest.mark.parametrize("sampler", DETERMINISTIC.values(), ids=DETERMINISTIC)
Z = np.linspace(-2, 2, 5)


# Inside the range of times: the order of the formulas. (UniPC's corrector adds one.)
@pytest.mark.parametrize(
    "name, order",
    [("euler", 1), ("heun", 2), ("dpm++", 2), ("unipc1", 2), ("unipc2", 3), ("unipc3", 4)],
)
def test_samplers_have_their_order(name, order):
    sampler, schedule, steps = DETERMINISTIC[name], RectifiedFlow(), [40, 80]
    with jax.enable_x64(True):
        errors = []
        for n in steps:
            # Half the log-SNR goes from -2 to 3 in even steps.
            times = 1 / (1 + np.exp(np.linspace(-2, 3, n + 1)))
            x, end = (flow(Z, 1 - t, t) for t in (times[0], times[-1]))
            found = walk(sampler, jnp.asarray(x), times, schedule=schedule)[-1]
            errors.append(np.max(np.abs(found - end)))
    # From one halving of the steps to the next the slope settles; the last one counts.
    assert order - 0.25 < np.log2(errors[-2] / errors[-1]) < order + 0.5, errors


def final(sampler, schedule, x, **options):
    run = jax.jit(lambda x: sampler.sample(best(schedule), x, schedule=schedule, **options))
    return np.asarray(run(jnp.asarray(x)))


@pytest.mark.parametrize(
    "sampler, name, alpha, tolerance",
    [
        (Euler(steps=200), "cosine", 1.0, 0.01),
        (Heun(steps=100), "edm", 1.0, 0.002),
        (DDIM(steps=200), "linear", 1.0, 0.02),
        (DPMSolverPP(steps=150), "rectified", 3.0, 0.002),
        (UniPC(steps=40, order=2), "cosine zero", 1.0, 0.002),
        (UniPC(steps=60, order=3), "edm", 1.0, 0.0005),
    ],
)
def test_deterministic_samplers_end_at_the_exact_moments(sampler, name, alpha, tolerance):
    schedule = SCHEDULES[name]
    # The flow of normal data is affine, so that a few points tell mean and deviation.
    a, s, _ = read(schedule, np.ones(1001))
    x = flow(Z, a[0], s[0]).astype(np.float32)
    found = final(sampler, schedule, x, times=grid(sampler.steps, alpha))
    deviation, mean = np.polyfit(Z, found, 1)
    np.testing.assert_allclose([mean, deviation], [MEAN, SPREAD], atol=tolerance)
    np.testing.assert_allclose(found, MEAN + SPREAD * Z, atol=2 * tolerance)


@pytest.mark.parametrize(
    "sampler", [DDIM(eta=1.0), Ancestral(upper=1.0)], ids=["ddim", "ancestral"]
)
def test_stochastic_samplers_match_the_moments(sampler):
    schedule, n = SCHEDULES["linear"], 20000
    x = np.random.default_rng(0).normal(size=(n, 1)).astype(np.float32)
    found = final(sampler, schedule, x, key=jax.random.key(1), times=grid(150))
    # Standard errors are 0.004 and 0.003; the rest is for the finite number of steps.
    np.testing.assert_allclose([found.mean(), found.std()], [MEAN, SPREAD], atol=0.02)


def test_ddim_with_eta_one_is_the_ancestral_sampler_and_with_eta_zero_is_euler():
    kinds = (DDIM(eta=1.0), Ancestral(), DDIM(), Euler())
    every = [(one, SCHEDULES[name]) for name in ("rectified", "linear") for one in kinds]

    @jax.jit
    def run(x, t):
        def step(sampler, schedule):
            options = {"schedule": schedule, "key": jax.random.key(2)}
            return sampler.step(best(schedule), sampler.init(x), t, 0.2, **options).x

        return [step(*pair) for pair in every]

    for t in (1.0, 0.4):
        found = np.asarray(run(jnp.asarray(Z), t))
        np.testing.assert_allclose(found[0::4], found[1::4], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found[2::4], found[3::4])
        assert np.all(found[0::4] != found[2::4])


@pytest.mark.parametrize("upper", [0.0, 1.0])
def test_ancestral_step_is_the_posterior_of_ddpm(upper):
    betas = np.linspace(1e-4, 0.02, 1000)
    bar = np.cumprod(1 - betas)
    i = 700
    clean, x, key = jnp.array([0.3, -1.0]), jnp.array([1.5, 0.2]), jax.random.key(3)
    schedule = LinearDDPM()

    @jax.jit
    def run(clean, x):
        estimate = lambda x, t: from_clean(clean, x, t, schedule=schedule)  # noqa: E731
        sampler = Ancestral(upper=upper)
        times = (i + 1) / 1000, i / 1000
        found = sampler.step(estimate, sampler.init(x), *times, schedule=schedule, key=key)
        return found.x, jax.random.normal(key, x.shape)

    found, z = run(clean, x)
    mean = np.sqrt(bar[i - 1]) * betas[i] / (1 - bar[i]) * clean
    mean += np.sqrt(1 - betas[i]) * (1 - bar[i - 1]) / (1 - bar[i]) * x
    variance = betas[i] if upper else (1 - bar[i - 1]) / (1 - bar[i]) * betas[i]
    np.testing.assert_allclose(found, mean + np.sqrt(variance) * z, atol=1e-4)


START = np.array([0.0, 0.5, 1.0, 0.3], np.float32)[None, :, None, None]


@pytest.mark.parametrize(
    "sampler",
    [*DETERMINISTIC.values(), DDIM(eta=0.5), Ancestral()],
    ids=[*DETERMINISTIC, "ddim eta", "ancestral"],
)
def test_each_place_starts_at_its_own_level_and_given_places_never_change(sampler):
    schedule, times = SCHEDULES["rectified"], np.linspace(1, 0, 11, dtype=np.float32)
    drawn = np.random.default_rng(4).normal(size=(2, 2, 4, 1, 2, 3)).astype(np.float32)
    x = (1 - START[..., None]) * drawn[0] + START[..., None] * drawn[1]
    path = np.stack(walk(sampler, jnp.asarray(x), times, schedule=schedule, start=START))
    assert np.all(np.isfinite(path))
    # A place moves at the first step that ends below its level, and in every step from there on.
    still = np.all(path[1:] == path[:-1], axis=(1, 3, 4, 5))
    np.testing.assert_array_equal(still, times[1:, None] >= START[0, :, 0, 0])
    # The last step hands over the clean estimate made before it.
    np.testing.assert_allclose(path[-1][:, 1:], guess(path[-2], 0.9, 0.1)[:, 1:], atol=1e-6)
    if not sampler.stochastic:
        # Frame 1 alone, from its level on: its neighbours' earlier steps leave no trace.
        alone, whole = np.broadcast_to(x[:, 1:2], x.shape), np.ones_like(START)
        step = compiled(sampler, schedule)
        before = step._cache_size()
        end = walk(sampler, jnp.asarray(alone), times[5:], schedule=schedule, start=whole)[-1]
        assert step._cache_size() == before, "one compiled step serves all times and levels"
        np.testing.assert_allclose(path[-1][:, 1], end[:, 1], atol=1e-5)


def test_sampling_in_one_scan_is_the_same_as_step_by_step():
    sampler, schedule, x = DPMSolverPP(steps=10), SCHEDULES["rectified"], jnp.asarray(Z, float)
    times = np.linspace(1, 0, 11, dtype=np.float32)
    path = walk(sampler, x, times, schedule=schedule)
    np.testing.assert_allclose(final(sampler, schedule, x), path[-1], atol=1e-6)


def test_the_final_step_gives_the_clean_estimate_to_the_bit():
    clean, schedule = jnp.array([0.1, -0.7, 3.3]), SCHEDULES["linear"]

    @jax.jit
    def end(x):
        found = []
        for sampler in (Heun(), DPMSolverPP(), UniPC(order=2), DDIM(eta=1.0), Ancestral()):
            options = {"schedule": schedule, "key": jax.random.key(0)}
            given = lambda x, t: Estimate(clean=clean, noise=x)  # noqa: E731
            found.append(sampler.step(given, sampler.init(x), 0.1, 0.0, **options).x)
        return found

    for found in end(jnp.ones(3)):
        np.testing.assert_array_equal(found, clean)


def test_heun_asks_for_two_estimates_a_step_and_one_in_the_last():
    asked, schedule = [], SCHEDULES["rectified"]

    def estimate(x, t):
        jax.debug.callback(lambda t: asked.append(float(t)), t, ordered=True)
        return from_clean(0 * x, x, t, schedule=schedule)

    Heun(steps=2).sample(estimate, jnp.ones(3), schedule=schedule).block_until_ready()
    jax.effects_barrier()
    assert asked == [1.0, 0.5, 0.5]


def test_with_one_key_a_row_a_row_never_depends_on_its_neighbours():
    schedule, keys = SCHEDULES["rectified"], jax.random.split(jax.random.key(5), 3)
    x = np.random.default_rng(6).normal(size=(3, 2)).astype(np.float32)
    sample = jax.jit(
        lambda x, keys: Ancestral(steps=3).sample(best(schedule), x, schedule=schedule, key=keys)
    )
    whole = sample(x, keys)
    np.testing.assert_allclose(sample(x[1:], keys[1:]), whole[1:], atol=1e-6)
    other = sample(x[::-1], keys[::-1])
    np.testing.assert_allclose(other[::-1], whole, atol=1e-6)


@pytest.mark.parametrize("sampler", STOCHASTIC.values(), ids=STOCHASTIC)
def test_a_stochastic_sampler_without_a_key_says_what_to_do(sampler):
    x, schedule = jnp.zeros(2), SCHEDULES["rectified"]
    assert sampler.stochastic
    with pytest.raises(ValueError, match="give it a `key`, or take a deterministic sampler"):
        sampler.sample(best(schedule), x, schedule=schedule)
    with pytest.raises(ValueError, match=type(sampler).__name__):
        sampler.step(best(schedule), sampler.init(x), 1.0, 0.5, schedule=schedule)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match=r"Euler\(steps=0\)"):
        Euler(steps=0)
    with pytest.raises(ValueError, match=r"UniPC\(order=4\)"):
        UniPC(order=4)
