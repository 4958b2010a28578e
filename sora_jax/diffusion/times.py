"""Which diffusion times training draws and sampling visits.

Training times are functions of a uniform number u in (0, 1), so that one even spread of u over a
batch (`spread_uniform`) serves every distribution:

    Uniform         t = u
    LogitNormal     logit t ~ N(mean, std^2)                                        arXiv 2403.03206
    LogNormalSigma  ln sigma ~ N(mean, std^2), for EDM                              arXiv 2206.00364
    Shifted         another one, moved towards noise by the number of tokens        arXiv 2403.03206

The shift is t -> alpha t / (1 + (alpha - 1) t): it adds ln(alpha) to the logit of t, so shifts
multiply, and a logit-normal shifted by alpha is the logit-normal of mean + ln(alpha).
"""

from __future__ import annotations

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, Int, UInt32

from sora_jax.arrays import Key
from sora_jax.diffusion.schedules import EDM, Time, Values

Count = Int[Array, "..."] | int
"""Numbers of tokens, broadcast against the times."""

MARGIN = 2.0**-20
"""How far training times stay from 0 and 1, in single precision and after any shift."""

GOLDEN = 2654435769
"""2^32 / golden ratio: multiples of it, modulo 2^32, spread more evenly than any other's."""


def shift(t: Time, alpha: Values | float) -> Values:
    """Returns `t` moved towards noise (alpha > 1) or data (alpha < 1); 0 and 1 stay exactly."""
    t = jnp.asarray(t, float)
    return jnp.where(t == 1, 1, alpha * t / (1 + (alpha - 1) * t))


def grid(steps: int, alpha: Float[Array, ""] | float = 1.0) -> Values:
    """Returns the steps + 1 times of sampling, exactly 1 to exactly 0, even but for the shift."""
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not steps={steps}")
    # Divided on the host: a compiled division by a constant can miss 1 by a bit.
    return shift(jnp.asarray(np.arange(steps, -1, -1) / steps, float), alpha)


def spread_uniform(key: Key, rows: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Returns a number in (0, 1) for each row, uniform by itself and evenly spread over the rows.

    One random offset for all (the stratification of variational diffusion models, arXiv 2107.00630,
    appendix I.1) plus the row number times the golden ratio. Unlike offsets of i / batch, a row's
    number depends on its own position alone and any run of rows is evenly spread: empty rows, a
    larger batch or a smaller share of it change nothing for the others.
    """
    offset = jax.random.bits(key, dtype=jnp.uint32)
    return _to_unit(offset + rows.astype(jnp.uint32) * jnp.uint32(GOLDEN))


def _to_unit(bits: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    # The upper 23 bits and a half fit a single-precision number, and keep clear of both ends.
    return ((bits >> 9).astype(float) + 0.5) * 2.0**-23


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times(abc.ABC):
    """A distribution of training times."""

    @abc.abstractmethod
    def from_uniform(
        self, u: Float[Array, "*shape"], *, tokens: Count | None = None
    ) -> Float[Array, "*shape"]:
        """Returns t in (0, 1) for each `u` uniform in (0, 1).

        `tokens`, the length of each sample's sequence, broadcasts against `u`; the distributions
        that depend on it raise ValueError without.
        """

    def sample(self, key: Key, shape: tuple[int, ...], tokens: Count | None = None) -> Values:
        """Returns independent times in (0, 1) of the given shape."""
        return self.from_uniform(_to_unit(jax.random.bits(key, shape, jnp.uint32)), tokens=tokens)

    def alpha(self, tokens: Count) -> Values:
        """Returns the shift of a sampling grid for so many tokens; 1 unless these are shifted.

        The middle of the shifted grid is then the median of the training times.
        """
        return jnp.ones_like(jnp.asarray(tokens, float))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform(Times):
    """Every time is as likely as any other."""

    def from_uniform(
        self, u: Float[Array, "*shape"], *, tokens: Count | None = None
    ) -> Float[Array, "*shape"]:
        return _inside(u)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitNormal(Times):
    """The logit of t is normal: most times in the middle (arXiv 2403.03206, section 3.1).

    A fixed shift by alpha is mean = ln(alpha); sampling grids are shifted as much.
    """

    mean: float = 0.0
    std: float = 1.0

    def from_uniform(
        self, u: Float[Array, "*shape"], *, tokens: Count | None = None
    ) -> Float[Array, "*shape"]:
        return _inside(jax.nn.sigmoid(self.mean + self.std * ndtri(u)))

    def alpha(self, tokens: Count) -> Values:
        return jnp.exp(self.mean) * super().alpha(tokens)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogNormalSigma(Times):
    """The logarithm of EDM's sigma is normal (arXiv 2206.00364, table 1), as a time of `schedule`.

    Sigmas above the schedule's sigma_max (one in 600,000 with the numbers of the paper) become it.
    """

    mean: float = -1.2
    std: float = 1.2
    schedule: EDM = EDM()

    def from_uniform(
        self, u: Float[Array, "*shape"], *, tokens: Count | None = None
    ) -> Float[Array, "*shape"]:
        return _inside(self.schedule.time(jnp.exp(self.mean + self.std * ndtri(u))))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shifted(Times):
    """The times of `base` shifted by alpha = sqrt(tokens / reference_tokens), at most `cap`.

    More tokens show the same picture through more noise, so longer clips need noisier times (the
    square root: arXiv 2403.03206, section 5.3.2, and Open-Sora). Published rules reach shifts in
    the hundreds, where training collapses: hence the cap, and hence one sample in ten (the
    `uniform_share`) whose time is uniform, as in LTX-2.
    """

    base: Uniform | LogitNormal = LogitNormal()
    reference_tokens: int = 1024
    cap: float = 12.0
    uniform_share: float = 0.1

    def __post_init__(self) -> None:
        if self.reference_tokens < 1 or self.cap <= 0 or not 0 <= self.uniform_share <= 1:
            raise ValueError(
                "Shifted needs reference_tokens >= 1, cap > 0 and uniform_share in 0..1, not "
                f"{self.reference_tokens}, {self.cap} and {self.uniform_share}"
            )

    def from_uniform(
        self, u: Float[Array, "*shape"], *, tokens: Count | None = None
    ) -> Float[Array, "*shape"]:
        if tokens is None:
            raise ValueError("Shifted times need `tokens`, the sequence length of each sample")
        share = self.uniform_share
        # The lowest share of u becomes the uniform times; each part is stretched to (0, 1) again.
        plain = jnp.clip(u / max(share, MARGIN), MARGIN, 1 - MARGIN)
        rest = jnp.clip((u - share) / max(1 - share, MARGIN), MARGIN, 1 - MARGIN)
        shifted = shift(self.base.from_uniform(rest), self._further(tokens))
        return _inside(jnp.where(u < share, plain, shifted))

    def alpha(self, tokens: Count) -> Values:
        return self._further(tokens) * self.base.alpha(tokens)

    def _further(self, tokens: Count) -> Values:
        """The shift beyond that of the base."""
        tokens = jnp.maximum(jnp.asarray(tokens, float), 1)
        return jnp.minimum(jnp.sqrt(tokens / self.reference_tokens), self.cap)


def _inside(t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.clip(t, MARGIN, 1 - MARGIN)
