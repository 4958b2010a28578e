"""What a model predicts, and how each prediction gives the clean data and the noise.

With x = a c + s e (a the signal, s the noise factor of the schedule at t), every prediction here is
p c + q e, so that two linear equations give both parts back:

                      p                       q                   determinant a q - s p
    Velocity         -1                       1                   a + s
    Clean             1                       0                  -s
    Noise             0                       1                   a
    V                -s                       a                   a^2 + s^2     arXiv 2202.00512
    CleanDetail       s / r               -a d^2 / r          -r
                      with r^2 = s^2 + (a d)^2
    EDMPreconditioned s / (sigma_data r)     -sigma_data / r     -r / sigma_data
                      with r^2 = s^2 + sigma_data^2                             arXiv 2206.00364

Any prediction turns into any other through the `Estimate` of both parts (`convert`).
"""

from __future__ import annotations

import abc
import dataclasses
from typing import no_type_check

import jax
import jax.numpy as jnp

from sora_jax.diffusion.schedules import EDM, Schedule, Time, Values, along


# Unchecked at run time: as a pytree it also carries shapes, shardings and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The two parts that x is believed to be made of: x = signal(t) clean + noise(t) noise."""

    clean: Values
    noise: Values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction(abc.ABC):
    """A linear combination of clean data and noise that a model is trained to give."""

    @abc.abstractmethod
    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        """Returns the factors (p, q) of clean data and noise, of the shape of `t`.

        Raises ValueError as `check` does.
        """

    def check(self, schedule: Schedule) -> None:
        """Raises ValueError if `schedule` does not suit the prediction; makes no arrays."""
        return None

    def target(self, clean: Values, noise: Values, t: Time, schedule: Schedule) -> Values:
        """Returns what the model should say about the mixture of `clean` and `noise` at `t`."""
        p, q = self.coefficients(along(t, clean), schedule)
        return p * clean + q * noise

    def estimate(self, output: Values, x: Values, t: Time, schedule: Schedule) -> Estimate:
        """Returns the parts of `x` at `t` that agree with `output`; finite for all t."""
        t = along(t, x)
        p, q = self.coefficients(t, schedule)
        a, s = schedule.signal(t), schedule.noise(t)
        return Estimate(
            clean=(q * x - s * output) / self.determinant(t, schedule),
            noise=(a * output - p * x) / self.determinant(t, schedule),
        )

    def determinant(self, t: Time, schedule: Schedule) -> Values:
        """Returns a q - s p: an error of the output is s / determinant times that of clean data."""
        p, q = self.coefficients(t, schedule)
        return schedule.signal(t) * q - schedule.noise(t) * p


@dataclasses.dataclass(frozen=True, kw_only=True)
class Velocity(Prediction):
    """Noise less clean data: dx/dt on the straight path of rectified flow (arXiv 2209.03003).

    The same difference serves with every schedule; it is well conditioned at both ends of all.
    """

    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        one = jnp.ones_like(schedule.signal(t))
        return -one, one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clean(Prediction):
    """The clean data. At t = 0, where x holds no noise to tell, the noise is estimated as 0."""

    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        one = jnp.ones_like(schedule.signal(t))
        return one, jnp.zeros_like(one)

    def estimate(self, output: Values, x: Values, t: Time, schedule: Schedule) -> Estimate:
        return from_clean(output, x, t, schedule=schedule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanDetail(Prediction):
    """The clean data; where there is little noise, what x does not show of it.

    clean = (a d^2 x + s r output) / r^2: but for the output's scale it is equation 7 of arXiv
    2206.00364, for any schedule and for data of a deviation `detail` (d). A model that tells
    `Clean` has to hand on all that x shows, and its error there does not fall with the noise. With
    d the deviation of what is fine in the data, x is handed on beside it for s below a d; above
    that this is `Clean`, which tells nothing of the noise (a narrow model cannot, arXiv
    2511.13720).
    """

    detail: float = 0.2

    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        a, s = schedule.signal(t), schedule.noise(t)
        r = jnp.hypot(s, a * self.detail)
        return s / r, -a * self.detail**2 / r


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(Prediction):
    """The noise (arXiv 2006.11239). At a signal of 0 it says nothing about the data.

    A schedule that ends at no signal is therefore refused with a ValueError: sampling starts there.
    """

    def check(self, schedule: Schedule) -> None:
        if schedule.zero_terminal_snr:
            raise ValueError(
                f"noise prediction with {type(schedule).__name__}: its signal is 0 at t = 1, where "
                "noise says nothing about the data; predict Velocity, V or Clean instead"
            )

    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        self.check(schedule)
        one = jnp.ones_like(schedule.signal(t))
        return jnp.zeros_like(one), one

    def estimate(self, output: Values, x: Values, t: Time, schedule: Schedule) -> Estimate:
        return dataclasses.replace(super().estimate(output, x, t, schedule), noise=output)


@dataclasses.dataclass(frozen=True, kw_only=True)
class V(Prediction):
    """signal * noise - noise factor * clean data (arXiv 2202.00512, appendix D)."""

    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        return -schedule.noise(t), schedule.signal(t)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EDMPreconditioned(Prediction):
    """The output F of clean = c_skip x + c_out F(c_in x), of unit variance at every sigma.

    Equation 7 of arXiv 2206.00364 with the sigma_data of the EDM schedule, which it needs; c_in is
    the schedule's `scale_input`. The paper's loss weight (sigma^2 + sigma_data^2) / (sigma
    sigma_data)^2 on clean data is exactly the plain squared error of this output.
    """

    def check(self, schedule: Schedule) -> None:
        if not isinstance(schedule, EDM):
            raise ValueError(
                f"EDMPreconditioned needs the EDM schedule, not {type(schedule).__name__}; with "
                "that one predict V, which is the same up to its sign for data of unit variance"
            )

    def coefficients(self, t: Time, schedule: Schedule) -> tuple[Values, Values]:
        self.check(schedule)
        assert isinstance(schedule, EDM)
        sigma = schedule.noise(t)
        total = jnp.hypot(sigma, schedule.sigma_data)
        return sigma / (schedule.sigma_data * total), -schedule.sigma_data / total


def from_clean(clean: Values, x: Values, t: Time, *, schedule: Schedule) -> Estimate:
    """Returns the estimate of `x` at `t` whose clean part is `clean`; its noise is 0 at t = 0."""
    t = along(t, x)
    s = schedule.noise(t)
    noise = (x - schedule.signal(t) * clean) / jnp.where(s > 0, s, 1)
    return Estimate(clean=clean, noise=jnp.where(s > 0, noise, 0))


def convert(
    output: Values,
    x: Values,
    t: Time,
    *,
    schedule: Schedule,
    source: Prediction,
    destination: Prediction,
) -> Values:
    """Returns the `destination` prediction that says about `x` what `output`, a `source`, says."""
    parts = source.estimate(output, x, t, schedule)
    return destination.target(parts.clean, parts.noise, t, schedule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unweighted:
    """The plain squared error of the model's output."""

    def weight(self, t: Time, *, prediction: Prediction, schedule: Schedule) -> Values:
        """Returns the factor of the output's squared error at `t`, of the shape of `t`."""
        return jnp.ones_like(schedule.signal(t))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MinSNR:
    """Squared error of the clean data times min(SNR, gamma) (arXiv 2303.09556).

    Written for the output of any prediction: min(a^2, gamma s^2) / determinant^2.
    """

    gamma: float = 5.0

    def weight(self, t: Time, *, prediction: Prediction, schedule: Schedule) -> Values:
        """Returns the factor of the output's squared error at `t`, of the shape of `t`."""
        # Zero over zero for clean data at t = 0; a step away from it gives the limit.
        t = jnp.maximum(t, 1e-6)
        least = jnp.minimum(schedule.signal(t) ** 2, self.gamma * schedule.noise(t) ** 2)
        return least / prediction.determinant(t, schedule) ** 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class VelocityWeighted:
    """Squared error of the velocity that the output implies (clean patches: arXiv 2511.13720).

    ((a + s) / determinant)^2, the determinant taken as at least `floor` in size: for clean data
    under rectified flow the weight is 1 / max(t, floor)^2, for velocity it is 1.
    """

    floor: float = 0.05

    def weight(self, t: Time, *, prediction: Prediction, schedule: Schedule) -> Values:
        """Returns the factor of the output's squared error at `t`, of the shape of `t`."""
        determinant = jnp.abs(prediction.determinant(t, schedule))
        total = schedule.signal(t) + schedule.noise(t)
        return (total / jnp.maximum(determinant, self.floor)) ** 2


Weighting = Unweighted | MinSNR | VelocityWeighted
"""What a squared error of the output counts at each time."""
