"""How much signal and how much noise there is at each diffusion time: x = signal(t) c + noise(t) e.

c is clean data, e standard normal noise, and t in 0..1 diffusion time, 0 = data and 1 = noise.
Every schedule has signal(0) = 1 and noise(0) = 0 exactly, so that t = 0 always means clean data.

    RectifiedFlow    signal = 1 - t, noise = t                                      arXiv 2209.03003
    EDM              signal = 1, noise = the rho schedule of Karras et al.          arXiv 2206.00364
    LinearDDPM       signal^2 + noise^2 = 1, signal^2 = prod(1 - beta)              arXiv 2006.11239
    CosineDDPM       the same with the betas of improved DDPM                       arXiv 2102.09672
    ZeroTerminalSNR  a DDPM rescaled so that t = 1 is noise and nothing else        arXiv 2305.08891

Derivatives with respect to t come from `jax.grad` and `jax.jvp`; no formula here needs them.
"""

from __future__ import annotations

import abc
import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Values = Float[Array, "..."]
"""Numbers in an array of any shape."""

Time = Values | float
"""Diffusion time in 0..1: a number or a field."""


def along(t: Time, x: Values) -> Values:
    """Returns `t` in a shape that broadcasts against `x`: a field gets an axis for the channels.

    A scalar, or a `t` with as many axes as `x`, comes back as it is. Raises ValueError for any
    other number of axes.
    """
    field = jnp.asarray(t, float)
    if field.ndim in (0, x.ndim):
        return field
    if field.ndim == x.ndim - 1:
        return field[..., None]
    raise ValueError(
        f"a noise field of shape {field.shape} does not fit x of shape {x.shape}: give it every "
        "axis of x but the last (size 1 where it does not vary), or a scalar"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(abc.ABC):
    """Signal and noise as functions of diffusion time, of any shape."""

    @abc.abstractmethod
    def signal(self, t: Time) -> Values:
        """Returns the factor of the clean data at `t`; 1 at t = 0."""

    @abc.abstractmethod
    def noise(self, t: Time) -> Values:
        """Returns the factor of the standard normal noise at `t`; 0 at t = 0."""

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether nothing is left of the data at t = 1, so that noise cannot be predicted there."""
        return False

    def mix(self, clean: Values, noise: Values, t: Time) -> Values:
        """Returns `clean` noised to `t` (a number or field, see `along`); `clean` at t = 0."""
        t = along(t, clean)
        return self.signal(t) * clean + self.noise(t) * noise

    def half_log_snr(self, t: Time) -> Values:
        """Returns lambda = log(signal / noise): +inf at t = 0, -inf at a zero terminal SNR."""
        return jnp.log(self.signal(t)) - jnp.log(self.noise(t))

    def scale_input(self, x: Values, t: Time) -> Values:
        """Returns noised data as a model should see it: scaled to about unit variance."""
        return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class RectifiedFlow(Schedule):
    """The straight path from data to noise: x = (1 - t) c + t e (arXiv 2209.03003, 2210.02747)."""

    def signal(self, t: Time) -> Values:
        return 1 - jnp.asarray(t, float)

    def noise(self, t: Time) -> Values:
        return jnp.asarray(t, float)

    @property
    def zero_terminal_snr(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class EDM(Schedule):
    """Variance-exploding noise on the rho schedule (arXiv 2206.00364, equation 5).

        noise(t) + sigma_min = (A + t (B - A))^rho
        with A^rho = sigma_min and B^rho = sigma_max + sigma_min

    The paper's table stops at sigma_min and then jumps to 0. Here the rho schedule is that of
    sigma + sigma_min, which is smooth, ends at exactly 0 for t = 0 (so that given frames are given
    exactly) and at sigma_max for t = 1, and differs from the paper's by at most sigma_min. The
    paper's own table is `edm.time(sigmas)`, to be passed to a sampler as its grid.

    The paper tells its network ln(sigma) / 4 (`c_noise`). Our transformers are told t, a monotone
    function of the same sigma in the 0..1 that every schedule shares.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"EDM needs 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def _stretch(self) -> float:
        """(B - A) / A, in which the schedule is exact near t = 0 in single precision."""
        return (1 + self.sigma_max / self.sigma_min) ** (1 / self.rho) - 1

    def signal(self, t: Time) -> Values:
        return jnp.ones_like(jnp.asarray(t, float))

    def noise(self, t: Time) -> Values:
        t = jnp.asarray(t, float)
        return self.sigma_min * jnp.expm1(self.rho * jnp.log1p(t * self._stretch))

    def time(self, sigma: Time) -> Values:
        """Returns the t in 0..1 at which noise(t) is `sigma`; values above sigma_max give 1."""
        sigma = jnp.asarray(sigma, float)
        t = jnp.expm1(jnp.log1p(sigma / self.sigma_min) / self.rho) / self._stretch
        return jnp.clip(t, 0.0, 1.0)

    def scale_input(self, x: Values, t: Time) -> Values:
        """Returns c_in x, of unit variance if the data have standard deviation sigma_data."""
        return x / jnp.hypot(self.noise(along(t, x)), self.sigma_data)

    def c_noise(self, t: Time) -> Values:
        """Returns ln(sigma) / 4, what the paper's own networks are told; sigma_min stands for 0."""
        return jnp.log(jnp.maximum(self.noise(t), self.sigma_min)) / 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM(Schedule):
    """A variance-preserving chain of discrete steps, read at any time between them.

    t = (i + 1) / steps is the table's step i (so i = steps t - 1 is what published discrete models
    are told), t = 0 clean data; in between, the signal is interpolated linearly. The tables are
    made in double precision on the host. Beside the signal stands its complement, 1 - signal, so
    that noise = sqrt((1 - signal)(1 + signal)) is exact to single precision at both ends.
    """

    @abc.abstractmethod
    def signals(self) -> np.ndarray:
        """Returns sqrt(alpha bar) at t = 0, 1/steps, ..., 1: float64 [steps + 1], first 1."""

    @abc.abstractmethod
    def complements(self) -> np.ndarray:
        """Returns 1 - signals() without the cancellation."""

    def signal(self, t: Time) -> Values:
        return _interpolate(self.signals(), jnp.asarray(t, float))

    def noise(self, t: Time) -> Values:
        t = jnp.asarray(t, float)
        complement = _interpolate(self.complements(), t)
        return jnp.sqrt(complement * (1 + _interpolate(self.signals(), t)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BetaDDPM(DDPM):
    """A DDPM given by beta, the variance that each step adds: alpha bar = prod(1 - beta)."""

    steps: int = 1000

    @abc.abstractmethod
    def betas(self) -> np.ndarray:
        """Returns the variances added by steps 0, 1, ...: float64 [steps]."""

    def signals(self) -> np.ndarray:
        return np.exp(self._log_signals())

    def complements(self) -> np.ndarray:
        return -np.expm1(self._log_signals())

    def _log_signals(self) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(np.log1p(-self.betas()))]) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearDDPM(BetaDDPM):
    """Betas in equal steps (arXiv 2006.11239; the table of ADM, arXiv 2105.05233, and of DiT)."""

    beta_start: float = 1e-4
    beta_end: float = 0.02

    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_start, self.beta_end, self.steps, dtype=np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineDDPM(BetaDDPM):
    """Alpha bar falls as a squared cosine (arXiv 2102.09672, equation 17), beta at most 0.999."""

    offset: float = 0.008
    maximum_beta: float = 0.999

    def betas(self) -> np.ndarray:
        t = np.arange(self.steps + 1, dtype=np.float64) / self.steps
        alpha_bar = np.cos((t + self.offset) / (1 + self.offset) * math.pi / 2) ** 2
        return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], self.maximum_beta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroTerminalSNR(DDPM):
    """`chain` with its signal shifted to 0 at t = 1 and scaled back at its first step.

    Algorithm 1 of arXiv 2305.08891. Predict velocity, v or clean data with it: noise says nothing
    about the data at t = 1.
    """

    chain: BetaDDPM

    @property
    def zero_terminal_snr(self) -> bool:
        return True

    def signals(self) -> np.ndarray:
        signals = self.chain.signals()
        first, last = signals[1], signals[-1]
        return np.concatenate([[1.0], (signals[1:] - last) * first / (first - last)])

    def complements(self) -> np.ndarray:
        return 1 - self.signals()


def _interpolate(table: np.ndarray, t: Values) -> Values:
    """Returns the values at `t` in 0..1 of the broken line through `table`, its ends at 0 and 1."""
    position = jnp.clip(t, 0.0, 1.0) * (len(table) - 1)
    below = jnp.minimum(position.astype(int), len(table) - 2)
    ends = jnp.asarray(np.stack([table[:-1], table[1:]], axis=-1), t.dtype)
    pair = jnp.take(ends, below, axis=0, mode="clip")
    # The two-term form hits the table exactly where the fraction is 0 or 1.
    fraction = position - below
    return pair[..., 0] * (1 - fraction) + pair[..., 1] * fraction
