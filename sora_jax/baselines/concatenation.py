"""Given frames by concatenation: the alternative to a noise field.

The model sees three things side by side for each place: its noisy latent, the latent that is given
there (0 where nothing is), and whether one is. This is how W.A.L.T predicts frames (arXiv
2312.06662) and how Open-Sora 2 and Wan's image-to-video models take their first frame.
`Concatenated` noises all frames alike, whether they are given or not; `ConcatenatedField` is told
of given frames in both ways, by concatenation and by the noise field.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from sora_jax.arrays import Batch, Key, Known, Latent, Sigma
from sora_jax.diffusion.schedules import Values
from sora_jax.objectives.denoising import Denoising
from sora_jax.objectives.levels import Levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConcatenatedField(Denoising):
    """The noise field, and what is given beside it as further channels.

    `model.latent_channels` is twice those of the autoencoder and one more; of what it gives the
    first half is taken.
    """

    @property
    def channels(self) -> int:
        """Of the latents that are denoised."""
        return (self.model.latent_channels - 1) // 2

    @property
    def knows_given(self) -> bool:
        """Not as a canvas gives them, which has no further channels; `given_table.py` has."""
        return False

    def init(self, key: Key, batch: Batch) -> dict[str, Any]:
        latent = jnp.asarray(batch.latent, float)
        nothing = jnp.zeros((*latent.shape[:-1], self.channels + 1))
        wide = jnp.concatenate([latent, nothing], axis=-1)
        return super().init(key, dataclasses.replace(batch, latent=wide))

    def shown(
        self, given: Latent, noise: Latent, levels: Levels
    ) -> tuple[Latent, Sigma, Values | None]:
        x = self.schedule.mix(given, noise, levels.t)
        return x, levels.t, given_channels(x, levels.known)

    def widened(self, x: Values, beside: Values | None) -> Values:
        if beside is None:
            beside = jnp.zeros((*x.shape[:-1], self.channels + 1))
        return jnp.concatenate([x, beside], axis=-1)

    def narrowed(self, output: Values) -> Values:
        return output[..., : self.channels]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Concatenated(ConcatenatedField):
    """Further channels alone: given frames are noised as the others are, and not flagged."""

    def shown(
        self, given: Latent, noise: Latent, levels: Levels
    ) -> tuple[Latent, Sigma, Values | None]:
        # The time of what is asked for; of given frames the latents as they would be shown.
        asked = jnp.where(levels.known, 0, levels.t).max(axis=1, keepdims=True)
        t = jnp.where(levels.known, asked, levels.t)
        nearly = self.schedule.mix(given, noise, levels.t)
        return self.schedule.mix(given, noise, t), t, given_channels(nearly, levels.known)

    def flagged(self, known: Known | None) -> None:
        return None


def given_channels(given: Latent, known: Known) -> Values:
    """Returns the channels that stand beside a noisy latent: what is given, and where."""
    flag = jnp.broadcast_to(known[..., None], (*given.shape[:-1], 1)).astype(given.dtype)
    return jnp.concatenate([jnp.where(flag > 0, given, 0), flag], axis=-1)
