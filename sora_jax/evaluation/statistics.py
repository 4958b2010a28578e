"""Means of scores over clips, with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

_Z = 1.96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over the clips to which a metric applies, with its 95 % interval.

    error  its standard error. For yes and no the interval is Wilson's (1927, doi
           10.1080/01621459.1927.10502953), which is not empty for a score of 100 %.
    count  of how many clips.
    """

    value: float
    low: float
    high: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], *, yes_no: bool = False) -> Mean:
        """Of values, without those that are NaN; all NaN if there are none."""
        x = np.asarray(values, float)
        x = x[np.isfinite(x)]
        if not len(x):
            return cls(value=math.nan, low=math.nan, high=math.nan, error=math.nan, count=0)
        n, mean = len(x), float(x.mean())
        if yes_no:
            middle = (mean + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
            half = math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2)) * _Z / (1 + _Z**2 / n)
            low, high = max(0.0, middle - half), min(1.0, middle + half)
            return cls(value=mean, low=low, high=high, error=half / _Z, count=n)
        # Of one clip nothing is known but its value.
        error = float(x.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
        low, high = mean - _Z * error, mean + _Z * error
        return cls(value=mean, low=low, high=high, error=error, count=n)
