"""Wan 2.1 (arXiv 2503.20314) in the names and layouts of diffusers: `transformer` and `vae`."""

from sora_jax.importers.wan import transformer, vae
from sora_jax.importers.wan.files import WeightsError

__all__ = ["WeightsError", "transformer", "vae"]
