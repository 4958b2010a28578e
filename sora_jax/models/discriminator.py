"""The other player of an adversarial autoencoder: is this patch of a clip real?

A 3-D patch discriminator in the manner of arXiv 1611.07004 and 2012.09841: strided convolutions
give one logit for each patch of the clip rather than one for the whole, here with a causal
convolution over time at each level, so that a patch is a piece of motion and an image is a clip of
one frame. Masked by `extent` as the autoencoder is; RMS norms, which look at one place only, stand
where batch norms would mix rows with padding.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.arrays import Extent, Video
from sora_jax.models.coders import RMSNorm
from sora_jax.models.conv import CausalConv, Dtype, Form, Pointwise, SpatialDown, inside


class PatchDiscriminator(nn.Module):
    """One logit for each patch: `levels` halvings of height and width, time kept.

    `width` channels at first, twice as many at each further level.
    """

    width: int = 32
    levels: int = 3
    dtype: Dtype = "float32"
    form: Form | None = None

    @nn.compact
    def __call__(
        self, video: Video, extent: Extent | None = None
    ) -> tuple[
        Float[Array, "batch frames patch_rows patch_columns"],
        Bool[Array, "batch frames patch_rows patch_columns"],
    ]:
        """Returns the logits (above 0 for real) and which of them see any valid pixel."""
        x: Array = video
        for level in range(self.levels):
            width = self.width * 2**level
            down = SpatialDown(width, self.dtype, self.form, name=f"spatial_{level}")
            conv = CausalConv(width, self.dtype, self.form, name=f"conv_{level}")
            x, _, extent = down(x, None, extent)
            # The first level keeps the strength of its responses: that is what blur takes away.
            x = x if level == 0 else RMSNorm(name=f"norm_{level}")(x)
            x, _, extent = conv(nn.leaky_relu(x, 0.2), None, extent)
            x = nn.leaky_relu(x, 0.2)
        logits = Pointwise(1, name="out")(x)[..., 0]
        if extent is None:
            return logits, jnp.ones(logits.shape, bool)
        return logits, inside(extent, logits.shape[1:4])
