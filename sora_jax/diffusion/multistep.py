"""Samplers that remember earlier estimates: a higher order for one estimate a step.

With q = a / s and lambda = ln q, the probability flow between two times is exactly

    x' = (s' / s) x + a' I[c],    I[c] = integral over u of exp(u - lambda') c(u), lambda..lambda'

(arXiv 2206.00927, 2211.01095). DPM-Solver++ puts an extrapolated constant for c, UniPC (arXiv
2302.04867) the polynomial in lambda through the remembered estimates, integrated exactly (the
paper's "varying coefficients" variant), and then corrects x' with the first estimate made at it,
which costs nothing as the next step needs that estimate anyway.

The order is chosen place by place: an estimate counts if it was made at a strictly later time of
that place and at a finite lambda. So the first step of each place, the steps from or after a zero
terminal SNR and the last one to t = 0 are of order 1: x' = a' c + s' e, which gives c at t' = 0.
"""

from __future__ import annotations

import dataclasses
import math
from typing import no_type_check

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.arrays import Key
from sora_jax.diffusion.samplers import Estimator, Sampler, local, moved
from sora_jax.diffusion.schedules import Schedule, Time, Values, along


# Unchecked at run time: as a pytree it also carries shapes, shardings and whatever a map makes.
@no_type_check
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """The sample, the clean estimates made so far, newest first, and the global times of each.

    A time of -1 marks an estimate not made yet.
    """

    x: Values
    clean: tuple[Values, ...]
    times: Float[Array, "remembered"]


def _start(x: Values, remembered: int) -> History:
    empty = tuple(jnp.zeros_like(x) for _ in range(remembered))
    return History(x=x, clean=empty, times=jnp.full(remembered, -1, float))


def _push(history: History, clean: Values, t: Time) -> History:
    """Returns `history` with `clean`, estimated at global time `t`, in the place of the oldest."""
    times = jnp.concatenate([jnp.asarray(t, float)[None], history.times[:-1]])
    return dataclasses.replace(history, clean=(clean, *history.clean[:-1]), times=times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPMSolverPP(Sampler):
    """DPM-Solver++(2M): order 2 (arXiv 2211.01095, algorithm 2)."""

    def init(self, x: Values) -> History:
        return _start(x, 2)

    def step(
        self,
        estimate: Estimator,
        carry: History,
        t: Time,
        t_next: Time,
        *,
        schedule: Schedule,
        start: Time = 1.0,
        key: Key | None = None,
    ) -> History:
        x, now, then = carry.x, local(t, start), local(t_next, start)
        carry = _push(carry, estimate(x, now).clean, t)
        nodes = _nodes(carry, then, start, schedule)
        newest, older = carry.clean
        # The paper's 1 / (2 r), r the length of the last step over that of this one.
        weight = jnp.where(nodes.usable[1], -0.5 / nodes.position[1], 0)
        new = _advance(x, newest + weight * (newest - older), now, then, schedule)
        return dataclasses.replace(carry, x=moved(x, new, now, then))


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    """Predictor of order `order` (1, 2 or 3) and corrector of one more (arXiv 2302.04867)."""

    order: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise ValueError(f"UniPC(order={self.order}): give 1, 2 or 3")

    def init(self, x: Values) -> History:
        return _start(x, self.order)

    def step(
        self,
        estimate: Estimator,
        carry: History,
        t: Time,
        t_next: Time,
        *,
        schedule: Schedule,
        start: Time = 1.0,
        key: Key | None = None,
    ) -> History:
        now, then = local(t, start), local(t_next, start)
        found = estimate(carry.x, now).clean
        x = self._correct(carry, found, now, start, schedule)
        carry = _push(carry, found, t)
        nodes = _nodes(carry, then, start, schedule)
        terms, _ = _newton(carry.clean, nodes)
        mean = carry.clean[0] + sum(d * _average(omega, nodes) for d, omega in terms)
        new = _advance(x, mean, now, then, schedule)
        return dataclasses.replace(carry, x=moved(x, new, now, then))

    def _correct(
        self,
        carry: History,
        found: Values,
        now: Values,
        start: Time,
        schedule: Schedule,
    ) -> Values:
        """Returns the sample as if the step to `now` had known `found`, the estimate made there."""
        nodes = _nodes(carry, now, start, schedule)
        terms, omega = _newton(carry.clean, nodes)
        foretold = carry.clean[0] + sum(d * sum(omega) for d, omega in terms)
        # The polynomial that also passes through `found` differs by this multiple of omega.
        surplus = (found - foretold) * _average(omega, nodes) / sum(omega)
        before = jnp.maximum(local(carry.times[0], start), 0)
        fixed = carry.x + _share(before, now, carry.x, schedule) * surplus
        return jnp.where(nodes.usable[0], fixed, carry.x).astype(carry.x.dtype)


def _advance(
    x: Values,
    clean: Values,
    now: Values,
    then: Values,
    schedule: Schedule,
) -> Values:
    """Returns x at `then` if the clean estimate is `clean` all the way from `now`."""
    kept = schedule.noise(along(then, x)) / _positive(schedule.noise(along(now, x)))
    return kept * x + _share(now, then, x, schedule) * clean


def _share(now: Values, then: Values, x: Values, schedule: Schedule) -> Values:
    """Returns a' - a s' / s: how much of the clean estimate enters x between `now` and `then`."""
    now, then = along(now, x), along(then, x)
    kept = schedule.noise(then) / _positive(schedule.noise(now))
    return schedule.signal(then) - schedule.signal(now) * kept


def _positive(s: Values) -> Values:
    # No noise at local time 0; such places do not move.
    return jnp.where(s > 0, s, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Nodes:
    """Where the remembered estimates lie along a step, from its beginning (0) to its end (1).

    position  (lambda_i - lambda) / length, at most 0, newest first; made up where not usable.
    usable    whether each estimate may be used. The first is used in any case; for it the flag says
              whether the step is of finite length.
    length    lambda' - lambda; 1 where it is not finite or the place does not move.
    """

    position: list[Values]
    usable: list[Bool[Array, "..."]]
    length: Values


def _nodes(history: History, then: Values, start: Time, schedule: Schedule) -> _Nodes:
    """Returns the nodes of the step from the newest estimate of `history` to local time `then`."""
    then = along(then, history.x)
    times = [along(local(t, start), history.x) for t in history.times]
    ends = [schedule.half_log_snr(t) for t in (jnp.maximum(t, 0) for t in times)]
    end = schedule.half_log_snr(then)
    usable = [(times[0] > then) & jnp.isfinite(ends[0]) & jnp.isfinite(end)]
    length = jnp.where(usable[0], end - ends[0], 1)
    position = [jnp.zeros_like(length)]
    for newer, older, lam in zip(times, times[1:], ends[1:], strict=False):
        usable.append(usable[-1] & (older > newer) & jnp.isfinite(lam))
        place = (lam - ends[0]) / length
        position.append(jnp.where(usable[-1], place, position[-1] - 1))
    return _Nodes(position=position, usable=usable, length=length)


Polynomial = list[Values]
"""The coefficients of theta, theta^2, ..., theta the position along a step."""


def _newton(
    clean: tuple[Values, ...], nodes: _Nodes
) -> tuple[list[tuple[Values, Polynomial]], Polynomial]:
    """Returns the interpolating polynomial through the usable estimates, in Newton's form.

    First the terms beside the newest estimate, each a divided difference and the polynomial that it
    multiplies; then omega, the polynomial that is 0 at every usable node.
    """
    table, terms = list(clean), []
    omega = [jnp.ones_like(nodes.length)]
    for j in range(1, len(clean)):
        r, usable = nodes.position[j], nodes.usable[j]
        gaps = [nodes.position[i] - nodes.position[i + j] for i in range(len(clean) - j)]
        table = [(table[i] - table[i + 1]) / gap for i, gap in enumerate(gaps)]
        terms.append((jnp.where(usable, table[0], 0), omega))
        raised, lower = [jnp.zeros_like(r), *omega], [*omega, jnp.zeros_like(r)]
        omega = [
            jnp.where(usable, up - r * low, low) for up, low in zip(raised, lower, strict=True)
        ]
    return terms, omega


def _average(polynomial: Polynomial, nodes: _Nodes) -> Values:
    """Returns the mean of `polynomial` over the step with the weight exp(-length (1 - theta))."""
    h = nodes.length
    moment = total = -jnp.expm1(-h)
    mean = jnp.zeros_like(h)
    for k, coefficient in enumerate(polynomial, start=1):
        # Integration by parts; it cancels for short steps, where the series converges fast.
        moment = jnp.where(h < 1, _series(h, k), 1 - k * moment / h)
        mean = mean + coefficient * moment / total
    return mean


def _series(h: Values, k: int) -> Values:
    """Returns the integral over theta in 0..1 of h exp(-h (1 - theta)) theta^k for h < 1."""
    factors = [math.factorial(k) / math.factorial(k + 1 + n) for n in range(14)]
    return h * jnp.polyval(jnp.asarray(factors[::-1]), -h)
