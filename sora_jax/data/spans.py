"""Which frames of a clip training gives to the model where it is not the beginning that is given.

To extend backward, to connect or to close a loop, a model is given frames that come after others
which do not exist yet. A causal autoencoder must encode those frames without what is before them;
so, for training, each clip is also encoded with some frames as they are when they are all there is.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool

KINDS = ("last", "suffix", "ends", "random", "regular")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spans:
    """Draws the latent frames that are given: each kind as likely.

    last     the last one
    suffix   the last few, up to half
    ends     the first few and the last few, up to a third each
    random   each with a chance of its own, and one at least that is not the first
    regular  every second, third or fourth, from any on
    """

    def draw(self, rng: np.random.Generator, frames: int) -> Bool[np.ndarray, " frames"]:
        """Which of `frames` latent frames are given; none of a single one, and never all."""
        given = np.zeros(frames, bool)
        if frames < 2:
            return given
        kind = KINDS[rng.integers(len(KINDS))]
        if kind == "last":
            given[-1] = True
        elif kind == "suffix":
            given[-rng.integers(1, max(2, frames // 2 + 1)) :] = True
        elif kind == "ends":
            most = max(2, frames // 3 + 1)
            given[: rng.integers(1, most)] = given[-rng.integers(1, most) :] = True
        elif kind == "random":
            given = rng.random(frames) < rng.uniform(0.1, 0.6)
            given[rng.integers(1, frames)] = True
        else:
            step = rng.integers(2, 5)
            given[rng.integers(min(step, frames)) :: step] = True
        if given.all():
            # Not the last, without which only a beginning might be left.
            given[rng.integers(frames - 1)] = False
        return given
