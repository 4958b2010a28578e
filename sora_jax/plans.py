"""What `sora-jax compile` tells of one bucket's step on a TPU slice."""

from __future__ import annotations

import dataclasses
import math

from sora_jax.parallel.hlo import Collective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One bucket's step on a slice; bytes and operations are those of a chip.

    bytes      by kind: parameters, average, moments, batch, and temporary, which is what a step
               needs beside them at its peak.
    flops      of the model; recomputed, those that are done again in the backward pass, which
               take time and are no work done.
    seconds    that the step takes at least, by what takes them: compute, memory, exchange.
    stacks     shapes of kernels that are gathered for all layers at once, which should be none:
               each takes the memory that sharding was to spare.
    dense      shapes of arrays with a number for each pair of tokens, which should be none.
    refused    why XLA could not compile it, else empty.
    """

    stage: str
    bucket: str
    batch: int
    tokens: int
    chips: int
    mesh: str
    remat: str
    bytes: dict[str, int]
    hbm: int
    flops: float
    exchanged: tuple[Collective, ...]
    kernels: tuple[str, ...]
    seconds: dict[str, float]
    compiled_in: float
    recomputed: float = 0.0
    stacks: tuple[tuple[int, ...], ...] = ()
    dense: tuple[tuple[int, ...], ...] = ()
    refused: str = ""

    @property
    def peak(self) -> int:
        return sum(self.bytes.values())

    @property
    def fits(self) -> bool:
        return not self.refused and self.peak <= self.hbm

    @property
    def step_seconds(self) -> float:
        return max(self.seconds.values(), default=math.inf)

    @property
    def bound(self) -> str:
        """What takes the longest."""
        return max(self.seconds, key=lambda name: self.seconds[name], default="")

    @property
    def tokens_per_second(self) -> float:
        """Of a chip, at best."""
        return self.tokens / self.chips / self.step_seconds

    @property
    def utilisation(self) -> float:
        """Model FLOPs utilisation at best: the share of the step that the model's own take."""
        done = self.flops / (self.flops + self.recomputed)
        return done * self.seconds.get("compute", 0.0) / self.step_seconds
