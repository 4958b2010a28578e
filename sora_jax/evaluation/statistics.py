"""Means of scores over clips, with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

Z = 1.96
"""Standard errors from a mean to the end of its 95 % interval."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over the clips to which a metric applies, with its 95 % interval from low to high.

    error  its standard error: half the interval, by Z.
    count  of how many clips.
    """

    value: float
    low: float
    high: float
    error: float
    count: int

    @classmethod
    def of(
        cls, values: Sequence[float] | np.ndarray, *, span: tuple[float, float] | None = None
    ) -> Mean:
        """Of values, without those that are not finite; all NaN if there are none.

        span  the least and the greatest value that there can be, within which the interval stays.

        The interval is Student's. Of yes and no (a span of 0 to 1, and no other values) it is
        Wilson's (1927, doi 10.1080/01621459.1927.10502953); and so it is, stretched to the span,
        where all values are alike: clips that were not drawn may differ.
        """
        x = np.asarray(values, float)
        x = x[np.isfinite(x)]
        if not len(x):
            return cls(value=math.nan, low=math.nan, high=math.nan, error=math.nan, count=0)
        n, mean = len(x), float(x.mean())
        yes_no = span == (0, 1) and np.isin(x, (0, 1)).all()
        if span is not None and (yes_no or np.ptp(x) == 0):
            drawn_in = Z**2 / n
            middle = (mean + drawn_in * sum(span) / 2) / (1 + drawn_in)
            least = Z * (span[1] - span[0]) / (2 * n)
            half = Z * math.hypot(float(x.std()) / math.sqrt(n), least) / (1 + drawn_in)
            low, high = middle - half, middle + half
        else:
            # Of one clip nothing is known but its value.
            half = math.inf
            if n > 1:
                half = float(special.stdtrit(n - 1, 0.975) * x.std(ddof=1)) / math.sqrt(n)
            low, high = mean - half, mean + half
        if span is not None:
            low, high = max(low, span[0]), min(high, span[1])
        return cls(value=mean, low=low, high=high, error=half / Z, count=n)

    def reaching(self, other: Mean) -> Mean:
        """The same mean, with an interval that holds that of another as well."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        return dataclasses.replace(self, low=low, high=high, error=(high - low) / (2 * Z))
