"""Training times and sampling grids."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.schedules import EDM
from sora_jax.diffusion.times import (
    LogitNormal,
    LogNormalSigma,
    Shifted,
    Uniform,
    grid,
    shift,
    spread_uniform,
)

EVERY = [
    Uniform(),
    LogitNormal(mean=1.0, std=2.0),
    LogNormalSigma(),
    Shifted(reference_tokens=16),
    Shifted(base=Uniform(), reference_tokens=16, uniform_share=0.0),
    Shifted(reference_tokens=16, uniform_share=1.0),
]


def logit(t):
    return np.log(t) - np.log1p(-t)


def run(formula, *arguments):
    return np.asarray(jax.jit(formula)(*map(jnp.asarray, arguments)))


def test_shift_keeps_the_ends_and_adds_to_the_logit():
    t = np.linspace(0, 1, 21)
    for alpha in (0.3, 1.0, 3.0, 12.0):
        found = run(shift, t, alpha)
        assert found[0] == 0 and found[-1] == 1
        np.testing.assert_allclose(found, alpha * t / (1 + (alpha - 1) * t), rtol=1e-6)
        moved = logit(found[1:-1]) - logit(t[1:-1])
        np.testing.assert_allclose(moved, np.log(alpha), atol=1e-4)


def test_shifts_multiply_and_undo_one_another():
    t = np.linspace(0, 1, 21)
    np.testing.assert_allclose(run(shift, run(shift, t, 2.0), 3.0), run(shift, t, 6.0), atol=1e-6)
    np.testing.assert_allclose(run(shift, run(shift, t, 5.0), 0.2), t, atol=1e-6)


@pytest.mark.parametrize("steps, alpha", [(1, 1.0), (7, 3.0), (1000, 1.0), (1000, 12.0)])
def test_grid_falls_from_exactly_one_to_exactly_zero(steps, alpha):
    times = run(lambda alpha: grid(steps, alpha), alpha)
    assert times.shape == (steps + 1,) and times[0] == 1 and times[-1] == 0
    assert np.all(np.diff(times) < 0)


def test_grid_without_a_shift_is_even_and_needs_a_step():
    np.testing.assert_allclose(grid(4), [1, 0.75, 0.5, 0.25, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="steps=0"):
        grid(0)


@pytest.mark.parametrize("times", EVERY)
def test_times_stay_inside_the_open_interval_and_never_fall_with_u(times):
    u = [2.0**-24, 1e-3, 0.1, 0.5, 0.9, 1 - 2.0**-24]
    tokens = np.repeat([[10**9], [256], [0]], 6, axis=1)
    rows = run(lambda u, n: times.from_uniform(u, tokens=n), np.stack([u] * 3), tokens)
    for t, tokens in zip(rows, (10**9, 256, 0), strict=True):
        assert np.all(t > 0) and np.all(t < 1)
        # The lowest share of shifted times is the uniform part; without tokens all are near 0.
        rising = t if not isinstance(times, Shifted) else t[3:]
        if tokens:
            assert np.all(np.diff(rising) >= 0)


def gap(sample, cumulative):
    """The Kolmogorov-Smirnov distance: about 1.6 / sqrt(n) is exceeded once in a hundred."""
    ranks = (np.arange(sample.size) + 0.5) / sample.size
    return np.max(np.abs(cumulative(np.sort(sample)) - ranks))


def normal(z):
    return 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))


def draw(times, tokens=None):
    key = jax.random.key(1)
    return np.asarray(jax.jit(lambda key: times.sample(key, (20000,), tokens))(key))


def test_logit_normal_times_have_the_right_histogram():
    t = draw(LogitNormal(mean=0.5, std=1.3))
    assert gap(t, lambda t: normal((logit(t) - 0.5) / 1.3)) < 0.012


def test_log_normal_sigmas_have_the_right_histogram_and_come_back_through_the_schedule():
    t = draw(LogNormalSigma())
    assert gap(t, lambda t: normal((np.log(run(EDM().noise, t)) + 1.2) / 1.2)) < 0.012


def test_shifted_times_are_one_tenth_uniform_and_the_rest_moved_by_the_root_of_the_tokens():
    times = Shifted(reference_tokens=64, cap=12.0)
    t = draw(times, tokens=256)
    assert gap(t, lambda t: 0.1 * t + 0.9 * normal(logit(t) - math.log(2))) < 0.012


def test_shift_is_one_at_the_reference_and_never_above_the_cap():
    times = Shifted(reference_tokens=100, cap=5.0)
    np.testing.assert_allclose(run(times.alpha, [100, 900, 10**7, 25]), [1, 3, 5, 0.5])
    assert Uniform().alpha(7) == 1


def test_a_fixed_shift_is_a_logit_normal_of_another_mean():
    u = np.linspace(0.01, 0.99, 33)
    plain = run(lambda u: shift(LogitNormal().from_uniform(u), 3.0), u)
    np.testing.assert_allclose(run(LogitNormal(mean=math.log(3)).from_uniform, u), plain, rtol=1e-5)


def test_the_middle_of_a_sampling_grid_is_the_median_of_the_training_times():
    for times, median in (
        (LogitNormal(mean=1.0, std=2.0), 1.0),
        (
            Shifted(base=LogitNormal(mean=1.0), reference_tokens=1, uniform_share=0.0),
            1 + math.log(3),
        ),
    ):
        middle = run(lambda alpha: grid(2, alpha), times.alpha(9))[1]
        np.testing.assert_allclose(logit(middle), median, atol=1e-5)
        np.testing.assert_allclose(np.median(draw(times, tokens=9)), middle, atol=0.01)


def test_shifted_times_without_tokens_or_with_wrong_numbers_say_so():
    with pytest.raises(ValueError, match="tokens"):
        Shifted().sample(jax.random.key(0), (2,))
    with pytest.raises(ValueError, match=r"uniform_share in 0..1, not 1024, 12.0 and 1.5"):
        Shifted(uniform_share=1.5)


def test_rows_spread_evenly_and_never_depend_on_the_size_of_the_batch():
    key, spread = jax.random.key(4), jax.jit(spread_uniform)
    whole = np.asarray(spread(key, jnp.arange(64)))
    np.testing.assert_array_equal(spread(key, jnp.arange(8)), whole[:8])
    np.testing.assert_array_equal(spread(key, jnp.arange(8, 16)), whole[8:16])
    # 64 independent numbers leave a gap of about 0.07, and some of 16 boxes empty or with ten.
    assert np.max(np.diff(np.sort(whole))) < 0.03
    counts = np.histogram(whole, bins=16, range=(0, 1))[0]
    assert np.all((counts >= 2) & (counts <= 6))


def test_each_row_is_uniform_over_the_steps():
    keys = jax.random.split(jax.random.key(5), 4000)
    fifth = jax.jit(jax.vmap(lambda key: spread_uniform(key, jnp.array([5]))[0]))
    u = np.asarray(fifth(keys))
    assert np.all((u > 0) & (u < 1)) and gap(u, lambda u: u) < 0.026
