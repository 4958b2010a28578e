"""The causal 3-D convolutional video autoencoder, in the structure of Wan 2.1 (arXiv 2503.20314).

1 + 4k frames of 8h x 8w pixels become 1 + k latent frames of h x w places, each a Gaussian; the
first frame is coded alone, so that an image is a video of one frame. Each norm looks at one place
only (RMS over the channels), each convolution at the two frames before: so a clip coded in chunks
with the pasts of the layers carried along equals the clip in one go.

Padding. A clip that fills no whole number of latent places is continued by repeating its last frame
and its last row and column of pixels, each row of a batch beyond its own extent; what lies beyond
the latent extent is zero before each convolution and hidden from the attention. So padding,
whatever it holds, changes neither values nor gradients of the valid part.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_partitioning
from jaxtyping import Array, Bool, Float, Shaped

from sora_jax.arrays import Extent, Key, Latent, Size, Video
from sora_jax.models.coders import Coder, Decoder, Encoder, Remat
from sora_jax.models.conv import Dtype, Form, Pointwise, blanked
from sora_jax.models.transform import BlockTransform

START = -5.0
"""The log variance that a code begins with where it starts from a transform: noise as large as what
is coded would bury it."""


class Posterior(NamedTuple):
    """A Gaussian at each place of the latent grid."""

    mean: Latent
    log_variance: Latent

    def sample(self, key: Key) -> Latent:
        """Returns a draw through which gradients pass (arXiv 1312.6114).

        A row's noise depends on the key and its place in the batch alone.
        """
        keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(self.mean)))
        noise = jax.vmap(lambda row: jax.random.normal(row, self.mean.shape[1:]))(keys)
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def divergence(self) -> Latent:
        """Returns the Kullback-Leibler divergence from the standard normal, in nats a value."""
        variance = jnp.exp(self.log_variance)
        return 0.5 * (self.mean**2 + variance - 1.0 - self.log_variance)


# Small enough to leave published weights' outputs alone; above 0 where all channels are 0.
class VAE(nn.Module):
    """The autoencoder. Parameters are float32 whatever `dtype` it computes in.

    `base` times the multipliers are the channels of each level; between two levels height and width
    halve, and time too where `temporal` says so. The defaults are Wan 2.1's. With `patch` 2 the
    levels begin on a grid of half the height and width, whose places hold 2 x 2 pixels, as in Wan
    2.2: for the same compression it has a level less, the one that costs most and learns least.
    """

    base: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    """Residual blocks of each level of the encoder; the decoder has one more."""
    latent_channels: int = 16
    temporal: tuple[bool, ...] = (False, True, True)
    patch: int = 1
    transform: bool = False
    """Whether encoder and decoder add to a linear code of each block (`transform.BlockTransform`).
    They start silent, so that the autoencoder begins as a cosine transform and learns what that
    cannot do; Wan's begin with noise. In minutes, on few clips, it is worth several dB."""
    dtype: Dtype = "float32"
    remat: Remat = "none"
    form: Form | None = None
    """Form of the convolutions; None is what is fast on the backend."""

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
                silent=self.transform,
                dtype=self.dtype,
                remat=self.remat,
                form=self.form,
            )

        self.encoder = coder(Encoder, 2 * self.latent_channels)
        self.decoder = coder(Decoder, 3 * self.patch**2)
        if self.transform:
            self.blockwise = BlockTransform(self.factor, self.latent_channels)
        # In float32: they touch the latents themselves and cost nothing.
        self.to_posterior = Pointwise(2 * self.latent_channels)
        self.from_latent = Pointwise(self.latent_channels)
        for name, value in (
            ("latent_mean", nn.initializers.zeros_init()),
            ("latent_std", nn.initializers.ones_init()),
        ):
            initial = with_logical_partitioning(value, ("latent_channels",))
            setattr(self, name, self.param(name, initial, (self.latent_channels,), jnp.float32))

    def __call__(self, video: Video, extent: Extent | None = None) -> tuple[Video, Posterior]:
        """Returns the reconstruction from the posterior's mean, and the posterior."""
        posterior = self.encode(video, extent)
        return self.reconstruct(posterior.mean, Size(*video.shape[1:4]), extent), posterior

    @property
    def factor(self) -> Size:
        """Frames, height and width that one latent place stands for."""
        spatial = self.patch * 2 ** len(self.temporal)
        return Size(2 ** sum(self.temporal), spatial, spatial)

    def latent_size(self, size: Size) -> Size:
        """Returns the latent grid of a clip: 1 + ceil((frames - 1) / 4), the rest ceil(. / 8)."""
        rows, columns = (-(-pixels // self.factor.height) for pixels in size[1:])
        return Size(min(size.frames, self._latent_frames(size.frames)), rows, columns)

    def latent_extent(self, extent: Extent) -> Extent:
        """Returns the extent in latents of one in pixels: a place is valid if any pixel is."""
        frames = jnp.minimum(extent[:, 0], self._latent_frames(extent[:, 0]))
        pixels = extent[:, 1:] + self.factor.height - 1
        return jnp.concatenate([frames[:, None], pixels // self.factor.height], axis=1)

    def pixel_size(self, size: Size) -> Size:
        """Returns what a latent grid decodes to."""
        frames = max(1 + (size.frames - 1) * self.factor.frames, 0)
        return Size(frames, size.height * self.factor.height, size.width * self.factor.width)

    def _latent_frames(self, frames: Any) -> Any:
        return 1 + (frames + self.factor.frames - 2) // self.factor.frames

    def _pixel_extent(self, extent: Extent) -> Extent:
        frames = jnp.maximum(1 + (extent[:, 0] - 1) * self.factor.frames, 0)
        return jnp.concatenate([frames[:, None], extent[:, 1:] * self.factor.height], axis=1)

    def encode(self, video: Video, extent: Extent | None = None) -> Posterior:
        """Returns the posterior of pixels in -1..1, not normalised; `extent` is in pixels.

        Beyond the latent extent mean and log variance are 0.
        """
        size = self.pixel_size(self.latent_size(Size(*video.shape[1:4])))
        reach = None if extent is None else self.latent_extent(extent)
        covered = None if reach is None else self._pixel_extent(reach)
        video = continued(video, extent, size=size, covered=covered)
        posterior, _ = self._coded(video.astype(jnp.float32), None, covered, reach)
        return posterior

    def decode(
        self, latent: Latent, extent: Extent | None = None
    ) -> Float[Array, "batch frames height width 3"]:
        """Returns pixels, about -1..1 and not clipped; `extent` is in latents.

        The latents are not normalised ones (see `denormalise`). Beyond the extent pixels are 0.
        """
        latent = blanked(latent.astype(jnp.float32), extent)
        video, _, extent = self._decoded(latent, None, extent)
        return blanked(video, extent)

    def reconstruct(
        self, latent: Latent, size: Size, extent: Extent | None = None
    ) -> Float[Array, "batch frames height width 3"]:
        """Returns `decode` cut to `size`; both `size` and `extent` are in pixels."""
        video = self.decode(latent, None if extent is None else self.latent_extent(extent))
        return video[:, : size.frames, : size.height, : size.width]

    def encode_chunk(
        self, video: Video, past: dict[str, Any] | None = None
    ) -> tuple[Posterior, dict[str, Any]]:
        """Returns the posterior of the next frames of a clip, and the past of the next call.

        The first chunk (`past` is None) has 1 + 4k frames, the others 4k; height and width are
        multiples of 8 (of `factor`, that is). Raises ValueError for other sizes.
        """
        frames, *sides = (n % m for n, m in zip(video.shape[1:4], self.factor, strict=True))
        if any(sides) or frames != (1 % self.factor.frames if past is None else 0):
            raise ValueError(
                f"a chunk of {Size(*video.shape[1:4])} pixels does not fill whole latents: the"
                f" first has 1 + {self.factor.frames}k frames, later ones {self.factor.frames}k,"
                f" height and width are multiples of {self.factor.height}"
            )
        return self._coded(video.astype(jnp.float32), past, None, None)

    def decode_chunk(
        self, latent: Latent, past: dict[str, Any] | None = None
    ) -> tuple[Float[Array, "batch frames height width 3"], dict[str, Any]]:
        """Returns the pixels of the next latents of a clip, and the past of the next call."""
        video, kept, _ = self._decoded(latent.astype(jnp.float32), past, None)
        return video, kept

    def lone(
        self, video: Shaped[Array, "..."], known: Bool[Array, "batch latent_frames"]
    ) -> Shaped[Array, "..."]:
        """Returns a clip that encodes to the latents of its `known` frames by themselves.

        Frames of pixels [batch, frames, height, width, 3] that belong to other latents give way to
        the first frame of the known latent that follows them: what is known is preceded by its own
        beginning at a standstill, as it is where there is nothing else. So a causal encoder, which
        would have seen the frames before, gives latents that say nothing of them. The latents of
        what is not known, and what follows the last known frame, mean nothing.
        """
        count = known.shape[1]
        place = jnp.arange(count)
        # For each latent frame, the next one that is known; itself where there is none.
        ahead = jax.lax.cummin(jnp.where(known, place, count), axis=1, reverse=True)
        step = self.factor.frames
        frame = jnp.arange(video.shape[1])
        of_latent = jnp.minimum((frame + step - 1) // step, count - 1)
        source = ahead[:, of_latent]
        begins = jnp.maximum(step * (source - 1) + 1, 0)
        chosen = jnp.where((source == of_latent) | (source == count), frame, begins)
        chosen = jnp.minimum(chosen, video.shape[1] - 1)
        return jnp.take_along_axis(video, chosen[:, :, None, None, None], axis=1)

    def normalise(self, latent: Latent) -> Latent:
        """Returns latents of mean 0 and deviation 1 for each channel over the training data."""
        mean, std = jax.lax.stop_gradient((self.latent_mean, self.latent_std))
        return (latent - mean) / std

    def denormalise(self, latent: Latent) -> Latent:
        """Returns what `normalise` was given."""
        mean, std = jax.lax.stop_gradient((self.latent_mean, self.latent_std))
        return latent * std + mean

    def _coded(
        self,
        video: Array,
        past: dict[str, Any] | None,
        covered: Extent | None,
        reach: Extent | None,
    ) -> tuple[Posterior, dict[str, Any]]:
        """The posterior of whole blocks: `covered` pixels, `reach` latents of them are valid.

        The encoder sees places of patch x patch pixels.
        """
        if covered is not None:
            covered = covered // jnp.array([1, self.patch, self.patch])
        places = einops.rearrange(
            video, "b f (h p) (w q) c -> b f h w (p q c)", p=self.patch, q=self.patch
        )
        x, kept, _ = self.encoder(places, past, covered)
        moments = self.to_posterior(blanked(x.astype(jnp.float32), reach))
        mean, log_variance = jnp.split(blanked(moments, reach), 2, axis=-1)
        if self.transform:
            mean += blanked(self.blockwise.analyse(video, first=past is None), reach)
            narrow = jnp.full_like(log_variance, START)
            log_variance += blanked(narrow, reach)
        # The bounds that published weights were trained with; exp stays finite.
        return Posterior(mean, jnp.clip(log_variance, -30.0, 20.0)), kept

    def _decoded(self, latent: Array, past: dict[str, Any] | None, extent: Extent | None) -> Any:
        """The decoder, its places taken apart into pixels, in float32."""
        places, kept, after = self.decoder(self.from_latent(latent), past, extent)
        if after is not None:
            after = after * jnp.array([1, self.patch, self.patch])
        video = einops.rearrange(
            places.astype(jnp.float32),
            "b f h w (p q c) -> b f (h p) (w q) c",
            p=self.patch,
            q=self.patch,
        )
        if self.transform:
            video += self.blockwise.synthesise(latent, first=past is None)
        return video, kept, after


def continued(
    video: Video, extent: Extent | None, *, size: Size, covered: Extent | None
) -> Float[Array, "batch frames_out rows columns 3"]:
    """Returns the video grown to `size`, with what is beyond the extent repeated from its edge.

    Each row's last valid frame, row and column are repeated up to `covered`; zeros follow.
    """
    grown = [(0, 0), *((0, n - m) for n, m in zip(size, video.shape[1:4], strict=True)), (0, 0)]
    if extent is None or covered is None:
        return jnp.pad(video, grown, mode="edge")
    video = jnp.pad(video, grown)
    for axis, length in enumerate(size):
        last = jnp.maximum(extent[:, axis, None] - 1, 0)
        source = jnp.minimum(jnp.arange(length), last)
        video = jax.vmap(functools.partial(jnp.take, axis=axis, mode="clip"))(video, source)
    return blanked(video, covered)


_light = functools.partial(
    VAE, multipliers=(1, 2, 4), temporal=(True, True), patch=2, transform=True
)

PRESETS = {
    "tiny": functools.partial(_light, base=8, blocks=0),
    "small": functools.partial(_light, base=16, blocks=1),
    "base": functools.partial(VAE, base=48, multipliers=(1, 2, 4, 4)),
    "wan": functools.partial(VAE, base=96, multipliers=(1, 2, 4, 4)),
}
"""Autoencoders by size."""
