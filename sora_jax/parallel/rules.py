"""From the names of array dimensions to axes of the device mesh, one typed field for each name.

Linen leaves a dimension whose name has no rule unsharded without a word. Here a name is a field, so
that a misspelt one cannot be looked up, and a test holds the models' names against the fields.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

MeshAxis = Literal["slices", "data", "fsdp", "sequence", "tensor"]
Axes = MeshAxis | tuple[MeshAxis, ...] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """The mesh axis (or axes, or None for whole on every device) of each dimension.

    Parameters are cut over `fsdp` and `sequence` (ZeRO 3, arXiv 1910.02054: devices that share a
    clip need not keep what they can gather) along a wide dimension, and over `tensor` along heads
    and the hidden dimension of the MLP (Megatron, arXiv 1909.08053); activations over `slices`,
    `data` and `fsdp` along the batch and over `sequence` along tokens.
    """

    # of parameters
    layers: Axes = None
    embed: Axes = ("fsdp", "sequence")
    heads: Axes = "tensor"
    head_dim: Axes = None
    mlp: Axes = "tensor"
    vocabulary: Axes = None
    text_embed: Axes = ("fsdp", "sequence")
    time_embed: Axes = None
    modulation: Axes = None
    latent_channels: Axes = None
    channels_in: Axes = None
    channels_out: Axes = "fsdp"
    # of activations
    batch: Axes = ("slices", "data", "fsdp")
    frames: Axes = None
    height: Axes = None
    width: Axes = None
    channels: Axes = None
    tokens: Axes = "sequence"
    text: Axes = None
    activation_embed: Axes = None
    activation_heads: Axes = "tensor"
    activation_mlp: Axes = "tensor"

    def pairs(self) -> tuple[tuple[str, Axes], ...]:
        """As `flax.linen.logical_axis_rules` takes them."""
        return tuple((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
