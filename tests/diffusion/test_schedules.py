"""Schedules: ends, order, tables and precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.schedules import (
    EDM,
    CosineDDPM,
    LinearDDPM,
    RectifiedFlow,
    ZeroTerminalSNR,
    along,
)
from tests.diffusion.gaussian import SCHEDULES, read

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every_schedule
def test_every_schedule_begins_at_clean_data_and_loses_it_steadily(schedule):
    signal, noise, ratio = read(schedule, np.linspace(0, 1, 1001))
    assert signal[0] == 1 and noise[0] == 0
    # Rounding may move the noise where it is all but 1.
    assert np.all(np.diff(signal) <= 0) and np.all(np.diff(noise) > -1e-7)
    assert np.all(np.diff(ratio[1:-1]) < 0) and ratio[0] == np.inf
    assert np.all(np.isfinite(signal)) and np.all(np.isfinite(noise))
    # Nothing is left of the data where the schedule says so, and only there.
    assert (signal[-1] == 0) == schedule.zero_terminal_snr
    np.testing.assert_allclose(noise[-1], 80 if isinstance(schedule, EDM) else 1, rtol=3e-5)
    assert noise[-1] == 1 or not schedule.zero_terminal_snr


def test_mixing_at_time_zero_gives_the_clean_data_to_the_bit():
    clean, noise = np.random.default_rng(0).normal(size=(2, 3, 2, 2, 2, 4)).astype(np.float32)
    field = np.array([0, 0.5, 0], np.float32)[:, None, None, None]
    mix = jax.jit(lambda *parts: [one.mix(*parts) for one in SCHEDULES.values()])
    for mixed in map(np.asarray, mix(clean, noise, field)):
        np.testing.assert_array_equal(mixed[0], clean[0])
        np.testing.assert_array_equal(mixed[2], clean[2])
        assert not np.any(mixed[1] == clean[1])


@pytest.mark.parametrize("name", ["edm", "linear", "cosine zero"])
def test_derivatives_by_jax_agree_with_differences(name):
    schedule = SCHEDULES[name]
    with jax.enable_x64(True):
        # Between two knots of the tables.
        t, step = 0.4005, 1e-5
        signal, noise, _ = read(schedule, [t - step, t + step])
        rates = jax.jit(jax.jacfwd(lambda t: (schedule.signal(t), schedule.noise(t))))(t)
        np.testing.assert_allclose(rates[0], np.diff(signal)[0] / (2 * step), rtol=1e-6)
        np.testing.assert_allclose(rates[1], np.diff(noise)[0] / (2 * step), rtol=1e-6)


def test_rectified_flow_moves_in_a_straight_line():
    signal, noise, _ = read(RectifiedFlow(), [0.0, 0.25, 1.0])
    np.testing.assert_array_equal(signal, [1, 0.75, 0])
    np.testing.assert_array_equal(noise, [0, 0.25, 1])


DDPMS = {
    "linear": (LinearDDPM(), np.linspace(1e-4, 0.02, 1000)),
    "cosine": (
        CosineDDPM(),
        np.array(
            [
                min(
                    1
                    - np.cos(((i + 1) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
                    / np.cos((i / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2,
                    0.999,
                )
                for i in range(1000)
            ]
        ),
    ),
}


@pytest.mark.parametrize("chain, betas", DDPMS.values(), ids=DDPMS)
def test_ddpm_hits_its_table_at_the_discrete_times(chain, betas):
    alpha_bar = np.cumprod(1 - betas)
    t = np.arange(1, 1001) / 1000
    for x64, rtol in ((False, 2e-5), (True, 1e-12)):
        with jax.enable_x64(x64):
            # The last steps of the cosine's signal fall by a factor of 30: relative to what is
            # there, single precision in t alone moves them.
            kept = slice(0, 990)
            signal, noise, _ = read(chain, t)
            np.testing.assert_allclose(signal[kept], np.sqrt(alpha_bar)[kept], rtol=rtol)
            np.testing.assert_allclose(signal, np.sqrt(alpha_bar), rtol=rtol, atol=1e-6)
            np.testing.assert_allclose(noise, np.sqrt(1 - alpha_bar), rtol=rtol)


def test_ddpm_noise_is_exact_in_single_precision_where_it_is_small():
    # sqrt(1 - signal^2) from a float32 signal would be wrong in the fourth digit.
    np.testing.assert_allclose(read(LinearDDPM(), [1e-3])[1], 1e-2, rtol=2e-6)


@pytest.mark.parametrize("chain", [CosineDDPM(), LinearDDPM(steps=10)])
def test_ddpm_preserves_variance_between_its_steps_too(chain):
    signal, noise, _ = read(chain, np.linspace(0, 1, 777))
    np.testing.assert_allclose(signal**2 + noise**2, 1, rtol=1e-6)


@pytest.mark.parametrize("chain", [LinearDDPM(), CosineDDPM()])
def test_zero_terminal_snr_keeps_the_first_step_and_the_shape_of_the_rest(chain):
    before, after = chain.signals(), ZeroTerminalSNR(chain=chain).signals()
    assert after[0] == 1 and after[-1] == 0
    np.testing.assert_allclose(after[1], before[1], rtol=1e-14)
    ratio = np.diff(after[1:]) / np.diff(before[1:])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_edm_time_inverts_the_noise_and_the_grid_can_be_the_papers():
    edm = EDM()
    i = np.arange(18)
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    table = (high + i / 17 * (low - high)) ** 7
    times = jax.jit(edm.time)(jnp.asarray(table))
    np.testing.assert_allclose(read(edm, times)[1], table, rtol=2e-5)
    assert times[0] == 1 and 0 < times[-1] < 0.1
    np.testing.assert_allclose([table[0], table[9], table[-1]], [80, 1.9233, 0.002], rtol=1e-3)


def test_edm_differs_from_the_papers_schedule_by_less_than_sigma_min():
    t = np.linspace(0, 1, 101)
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    paper = (low + t * (high - low)) ** 7
    gap = paper - read(EDM(), t)[1]
    assert np.all(gap < 0.0021) and np.all(gap > -1e-3)


def test_edm_shows_the_model_unit_variance_at_every_time():
    edm = EDM(sigma_data=0.5)
    clean, noise = np.random.default_rng(0).normal(size=(2, 50, 4000, 1)).astype(np.float32)
    t = jnp.linspace(0, 1, 50)[:, None]
    see = jax.jit(lambda clean, noise: edm.scale_input(edm.mix(clean, noise, t), t))
    np.testing.assert_allclose(np.std(see(clean / 2, noise), axis=1), 1, atol=0.05)


def test_edm_can_say_its_sigma_as_the_papers_networks_are_told_it():
    edm = EDM()
    told = jax.jit(lambda sigma: edm.c_noise(edm.time(sigma)))(jnp.array([0.0, 0.5, 2.0]))
    np.testing.assert_allclose(told, np.log([0.002, 0.5, 2.0]) / 4, rtol=1e-5)


def test_a_field_that_does_not_fit_is_refused_with_both_shapes():
    x = jnp.zeros((2, 3, 4, 4, 8))
    assert along(jnp.zeros((2, 3, 1, 1)), x).shape == (2, 3, 1, 1, 1)
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 3, 4, 4, 8\)"):
        along(jnp.zeros((2, 3)), x)
    with pytest.raises(ValueError, match="sigma_min < sigma_max"):
        EDM(sigma_min=2.0, sigma_max=1.0)
