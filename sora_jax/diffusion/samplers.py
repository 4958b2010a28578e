"""From noise to data in a number of steps, each a pure function that can be compiled once.

A sampler walks the global time t from 1 to 0. Each place of x has a start level s (1: generated
from noise; 0: given; between: edited, as in SDEdit, arXiv 2108.01073) and is at the local time
min(t, s); a place whose local time does not move keeps its value to the bit. The caller makes x
with `schedule.mix(reference, noise, start)`.

With the estimate x = a c + s e at t, and a', s' the schedule at the next time, the samplers of one
step

    Euler      x' = a' c + s' e
    Heun       x' = x + (a' - a) (c + c') / 2 + (s' - s) (e + e') / 2               arXiv 2206.00364
    DDIM       x' = a' c + sqrt(s'^2 - eta^2 b) e + eta sqrt(b) z                   arXiv 2010.02502
    Ancestral  x' = (a / a') (s' / s)^2 x + (a' b / s'^2) c + sqrt(b) z             arXiv 2006.11239
               with b = s'^2 (1 - (a s' / (a' s))^2), the variance of x' given x and c

integrate dx = c da + e ds, the probability flow of every schedule: along t for rectified flow and
along sigma for EDM, with no derivative of the schedule, which may be infinite. All of them give c
at t' = 0.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.arrays import Key
from sora_jax.diffusion.prediction import Estimate
from sora_jax.diffusion.schedules import Schedule, Time, Values, along
from sora_jax.diffusion.times import grid

Estimator = Callable[[Values, Values], Estimate]
"""The parts of x at local times t, a scalar or a field as `along` takes it."""


# Unchecked at run time: as a pytree it also carries shapes, shardings and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Carry:
    """What goes from step to step: the sample alone."""

    x: Values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """A method of sampling and how many steps it takes."""

    steps: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{type(self).__name__}(steps={self.steps}): give at least one step")

    @property
    def stochastic(self) -> bool:
        """Whether every step draws noise and needs a key."""
        return False

    def init(self, x: Values) -> Any:
        """Returns the carry before the first step, from `x` at its start levels."""
        return Carry(x=x)

    @abc.abstractmethod
    def step(
        self,
        estimate: Estimator,
        carry: Any,
        t: Time,
        t_next: Time,
        *,
        schedule: Schedule,
        start: Time = 1.0,
        key: Key | None = None,
    ) -> Any:
        """Returns the carry, its `x` at global time `t_next`, from the one at `t` > `t_next`.

        t, t_next  numbers, traced ones too: one compiled step serves them all.
        start      the start level of each place, a number or a field (see `along`).
        key        the key of this step, one or one for each row; ValueError where a stochastic
                   sampler gets none.
        """

    def sample(
        self,
        estimate: Estimator,
        x: Values,
        *,
        schedule: Schedule,
        start: Time = 1.0,
        key: Key | None = None,
        times: Float[Array, "times"] | None = None,
    ) -> Values:
        """Returns `x` taken from its start levels to t = 0, of the same shape.

        times  the global times to visit, falling, ending at 0; by default `steps` even ones from 1.
               Step i uses the key folded with i. Raises ValueError as `step` does.
        """
        visited = grid(self.steps) if times is None else times
        self._need(key)

        def step(carry, scanned):
            t, t_next, index = scanned
            own = None if key is None else fold(key, index)
            carry = self.step(estimate, carry, t, t_next, schedule=schedule, start=start, key=own)
            return carry, None

        scanned = (visited[:-1], visited[1:], jnp.arange(len(visited) - 1))
        return jax.lax.scan(step, self.init(x), scanned)[0].x

    def _need(self, key: Key | None) -> None:
        if self.stochastic and key is None:
            raise ValueError(
                f"{type(self).__name__} draws noise in every step: give it a `key`, or take a "
                "deterministic sampler such as DDIM(eta=0)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
    """One step of every place: from local time `now` to `then` <= `now`, scalars or fields."""

    now: Values
    then: Values
    schedule: Schedule
    key: Key | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneStep(Sampler):
    """A sampler that remembers nothing but the sample."""

    @abc.abstractmethod
    def advance(self, estimate: Estimator, x: Values, move: Move) -> Values:
        """Returns x at the end of `move`; finite, whatever its value, where that does not move."""

    def step(
        self,
        estimate: Estimator,
        carry: Carry,
        t: Time,
        t_next: Time,
        *,
        schedule: Schedule,
        start: Time = 1.0,
        key: Key | None = None,
    ) -> Carry:
        self._need(key)
        now, then = local(t, start), local(t_next, start)
        move = Move(now=now, then=then, schedule=schedule, key=key)
        new = self.advance(estimate, carry.x, move)
        return Carry(x=moved(carry.x, new, now, then))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(OneStep):
    """One straight step of the probability flow: order 1, one estimate a step."""

    def advance(self, estimate: Estimator, x: Values, move: Move) -> Values:
        parts = estimate(x, move.now)
        return move.schedule.mix(parts.clean, parts.noise, move.then)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(OneStep):
    """The trapezoidal rule: order 2, two estimates a step but one in the last (to t = 0)."""

    def advance(self, estimate: Estimator, x: Values, move: Move) -> Values:
        now, then, schedule = move.now, move.then, move.schedule
        first = estimate(x, now)
        guess = moved(x, schedule.mix(first.clean, first.noise, then), now, then)
        early, late = along(now, x), along(then, x)

        def correct(guess: Values) -> Values:
            second = estimate(guess, then)
            clean = (schedule.signal(late) - schedule.signal(early)) * (first.clean + second.clean)
            noise = (schedule.noise(late) - schedule.noise(early)) * (first.noise + second.noise)
            # At t = 0 there is no noise left to estimate: those places take Euler's step.
            return jnp.where(late > 0, x + (clean + noise) / 2, guess).astype(guess.dtype)

        return jax.lax.cond(jnp.any(then > 0), correct, lambda guess: guess, guess)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(OneStep):
    """Euler's step with a share `eta` of the ancestral noise: 0 none, 1 that of DDPM."""

    eta: float = 0.0

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def advance(self, estimate: Estimator, x: Values, move: Move) -> Values:
        schedule, parts = move.schedule, estimate(x, move.now)
        if move.key is None or not self.stochastic:
            return schedule.mix(parts.clean, parts.noise, move.then)
        early, late = along(move.now, x), along(move.then, x)
        s = schedule.noise(late)
        fresh = self.eta * s * jnp.sqrt(_forgotten(early, late, schedule))
        kept = jnp.sqrt(jnp.maximum(s**2 - fresh**2, 0))
        mean = schedule.signal(late) * parts.clean + kept * parts.noise
        return mean + fresh * normal(move.key, x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestral(OneStep):
    """The reverse chain of DDPM, for any schedule and any times.

    `upper` chooses the variance between its two bounds, on a logarithmic scale (improved DDPM,
    arXiv 2102.09672, equation 15): 0 is b, right for data without spread, 1 is the forward step's
    s^2 - (a / a')^2 s'^2, right for data of unit variance. The last step adds none.
    """

    upper: float = 0.0

    @property
    def stochastic(self) -> bool:
        return True

    def advance(self, estimate: Estimator, x: Values, move: Move) -> Values:
        schedule = move.schedule
        early, late = along(move.now, x), along(move.then, x)
        a, s = schedule.signal(late), schedule.noise(late)
        # Places that stay at local time 0 have no noise to divide by, those at 1 no signal.
        before = jnp.where(early > 0, schedule.noise(early), 1)
        ratio = schedule.signal(early) / jnp.where(a > 0, a, 1)
        forgotten = _forgotten(early, late, schedule)
        mean = ratio * (s / before) ** 2 * x + a * forgotten * estimate(x, move.now).clean
        # The two variances are forgotten * s^2 and forgotten * before^2.
        deviation = jnp.sqrt(forgotten) * s ** (1 - self.upper) * before**self.upper
        return mean + jnp.where(late > 0, deviation, 0) * normal(move.key, x)


def _forgotten(early: Values, late: Values, schedule: Schedule) -> Values:
    """Returns 1 - SNR(early) / SNR(late), in 0..1: how little x at `early` says of x at `late`."""
    above = schedule.signal(early) * schedule.noise(late)
    below = schedule.signal(late) * schedule.noise(early)
    return jnp.clip(1 - (above / jnp.where(below > 0, below, 1)) ** 2, 0, 1)


def local(t: Time, start: Time) -> Values:
    """Returns the local time of each place at global time `t`: min(t, start), of start's shape."""
    return jnp.minimum(jnp.asarray(t, float), jnp.asarray(start, float))


def moved(x: Values, new: Values, now: Values, then: Values) -> Values:
    """Returns `new` where the local time falls from `now` to `then`, `x` to the bit elsewhere."""
    return jnp.where(along(then, x) < along(now, x), new, x).astype(x.dtype)


def fold(key: Key, index: Any) -> Key:
    """Returns `key` folded with `index`; for an array of keys, each of them."""
    one = jax.random.fold_in
    return jax.vmap(one, (0, None))(key, index) if _many(key) else one(key, index)


def normal(key: Key | None, x: Values) -> Values:
    """Returns standard normal noise like `x`; with one key a row, a row's depends on no other."""
    assert key is not None, "`step` has refused a missing key"
    if _many(key):
        return normal_rows(key, x)
    # Two axes and not five: XLA takes seconds to compile the counters of many.
    flat = (*x.shape[:1], math.prod(x.shape[1:]))
    return jax.random.normal(key, flat, x.dtype).reshape(x.shape)


def normal_rows(keys: Key, x: Values) -> Values:
    """Returns standard normal noise like `x`, each row from its own key (of any style)."""
    size = math.prod(x.shape[1:])
    return jax.vmap(lambda key: jax.random.normal(key, (size,), x.dtype))(keys).reshape(x.shape)


def _many(key: Key) -> bool:
    """Whether `key` is an array of new-style keys (`jax.random.key`) rather than one."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1
