"""The causal 3-D convolutional video autoencoder, in the structure of Wan 2.1 (arXiv 2503.20314).

Each norm looks at one place only (RMS over the channels), each convolution at the two frames
before. See `autoencoder` for how clips become latents.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp

from sora_jax.arrays import Extent, Latent, Size, Video
from sora_jax.models.autoencoder import Autoencoder, Posterior
from sora_jax.models.coders import Coder, Decoder, Encoder
from sora_jax.models.conv import Pointwise, blanked


class VAE(Autoencoder):
    """The autoencoder.

    `base` times the multipliers are the channels of each level; between two levels height and width
    halve, and time too where `temporal` says so. The defaults are Wan 2.1's.
    """

    base: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    """Residual blocks of each level of the encoder; the decoder has one more."""
    temporal: tuple[bool, ...] = (False, True, True)

    def __post_init__(self) -> None:
        if len(self.temporal) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal has {len(self.temporal)} flags and multipliers {len(self.multipliers)}"
                " levels; give one flag for each step from a level to the next"
            )
        super().__post_init__()

    def setup(self) -> None:
        def coder(kind: type[Coder], features: int) -> Coder:
            return kind(
                base=self.base,
                multipliers=self.multipliers,
                blocks=self.blocks,
                features=features,
                temporal=self.temporal,
                dtype=self.dtype,
                remat=self.remat,
                form=self.form,
            )

        self.encoder = coder(Encoder, 2 * self.latent_channels)
        self.decoder = coder(Decoder, 3)
        # In float32: they touch the latents themselves and cost nothing.
        self.to_posterior = Pointwise(2 * self.latent_channels)
        self.from_latent = Pointwise(self.latent_channels)
        self.measured()

    @property
    def factor(self) -> Size:
        spatial = 2 ** len(self.temporal)
        return Size(2 ** sum(self.temporal), spatial, spatial)

    def coded(
        self,
        video: Video,
        past: dict[str, Any] | None,
        covered: Extent | None,
        reach: Extent | None,
    ) -> tuple[Posterior, dict[str, Any]]:
        x, kept, _ = self.encoder(video, past, covered)
        moments = self.to_posterior(blanked(x.astype(jnp.float32), reach))
        return Posterior.of(blanked(moments, reach)), kept

    def decoded(
        self, latent: Latent, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[Video, dict[str, Any], Extent | None]:
        video, kept, after = self.decoder(self.from_latent(latent), past, extent)
        return video.astype(jnp.float32), kept, after


PRESETS = {
    "base": functools.partial(VAE, base=48),
    "wan": functools.partial(VAE, base=96),
}
"""Sizes; those below are in `block_vae`."""
