"""Normal data N(MEAN, SPREAD^2), for which the best estimate and the probability flow are known.

x at t is normal with mean a MEAN and variance v = a^2 SPREAD^2 + s^2, the best guess of the clean
data is MEAN + a SPREAD^2 (x - a MEAN) / v, and the flow keeps (x - a MEAN) / sqrt(v).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion.prediction import from_clean
from sora_jax.diffusion.schedules import (
    EDM,
    CosineDDPM,
    LinearDDPM,
    RectifiedFlow,
    ZeroTerminalSNR,
    along,
)

MEAN, SPREAD = 0.7, 0.6

SCHEDULES = {
    "rectified": RectifiedFlow(),
    "edm": EDM(),
    "linear": LinearDDPM(),
    "cosine": CosineDDPM(),
    "linear zero": ZeroTerminalSNR(chain=LinearDDPM()),
    "cosine zero": ZeroTerminalSNR(chain=CosineDDPM()),
}


def read(schedule, t):
    """Signal, noise and half the log-SNR as NumPy arrays, from one compiled program."""
    parts = jax.jit(lambda t: (schedule.signal(t), schedule.noise(t), schedule.half_log_snr(t)))
    return jax.tree.map(np.asarray, parts(jnp.asarray(t)))


def best(schedule):
    """The optimal denoiser, as samplers ask for it."""

    def estimate(x, t):
        field = along(t, x)
        clean = guess(x, schedule.signal(field), schedule.noise(field))
        return from_clean(clean, x, t, schedule=schedule)

    return estimate


def guess(x, a, s):
    """The best guess of the clean data at signal `a` and noise `s`."""
    return MEAN + a * SPREAD**2 / (a**2 * SPREAD**2 + s**2) * (x - a * MEAN)


def flow(z, a, s):
    """x at signal `a` and noise `s` on the flow line that ends at the clean MEAN + SPREAD * z."""
    return a * MEAN + np.hypot(a * SPREAD, s) * z


@functools.cache
def compiled(sampler, schedule):
    """One compiled step for all times, with the optimal denoiser."""

    @jax.jit
    def step(carry, t, t_next, start, key):
        options = {"schedule": schedule, "start": start, "key": key}
        return sampler.step(best(schedule), carry, t, t_next, **options)

    return step


def walk(sampler, x, times, *, schedule, start=1.0):
    """Samples step by step; returns x at each of the times."""
    step, carry, path = compiled(sampler, schedule), sampler.init(x), [x]
    for i, (t, t_next) in enumerate(itertools.pairwise(times)):
        key = jax.random.key(i) if sampler.stochastic else None
        carry = step(carry, jnp.asarray(t), jnp.asarray(t_next), jnp.asarray(start), key)
        path.append(carry.x)
    return path
