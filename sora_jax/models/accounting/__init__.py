"""Parameters, operations and bytes of the models by formula, for any size, without running them.

A multiply-accumulate is two operations (FLOPs). Matrix products, convolutions (their taps beyond
the border left out) and attention count; elementwise work, a few percent, does not. A training step
is three forward passes, as in arXiv 2204.02311: what is computed again to save memory is no work
done. XLA's own count takes the body of a scan once, and so is of no use for the whole.

Bytes of activations are estimates, to tell what fits from what does not.
"""

from sora_jax.models.accounting.autoencoder import (
    autoencoder,
    decoding,
    discriminator,
    encoding,
)
from sora_jax.models.accounting.cost import Cost
from sora_jax.models.accounting.sampling import decoder_bytes
from sora_jax.models.accounting.transformer import (
    text_encoder,
    transformer,
    transformer_parameters,
)

__all__ = [
    "Cost",
    "autoencoder",
    "decoder_bytes",
    "decoding",
    "discriminator",
    "encoding",
    "text_encoder",
    "transformer",
    "transformer_parameters",
]
