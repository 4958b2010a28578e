"""What a model costs, and the bytes and parameters that all formulas count with."""

from __future__ import annotations

import dataclasses

WIDE = 4
"""Bytes of a float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs for a batch.

    tokens          of the whole batch, padding included; places of the latent grid, of a VAE
    flops           of a forward pass
    recomputed      operations of it that a backward pass does again, to save memory
    kept_bytes      of activations, that a backward pass needs
    working_bytes   of activations at the peak of a forward pass without gradient
    """

    parameters: int
    tokens: int
    flops: int
    kept_bytes: int
    working_bytes: int
    recomputed: int = 0

    @property
    def training_flops(self) -> int:
        """Operations of a training step, but for what is computed again."""
        return 3 * self.flops

    @property
    def parameter_bytes(self) -> int:
        """Of float32 parameters."""
        return WIDE * self.parameters

    def state_bytes(self, moments: int = 2 * WIDE) -> int:
        """Of parameters, their gradient and moving average, and `moments` bytes of each."""
        return 3 * self.parameter_bytes + moments * self.parameters

    def training_bytes(self, moments: int = 2 * WIDE) -> int:
        """At the peak of a training step, where a layer has its values and their gradients."""
        return self.state_bytes(moments) + self.kept_bytes + 2 * self.working_bytes


def linear(width: int, out: int) -> int:
    """Parameters of a linear layer."""
    return width * out + out


def bytes_of(dtype: str) -> int:
    return {"float32": 4, "bfloat16": 2}[dtype]
