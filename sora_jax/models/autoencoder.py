"""What every video autoencoder is: clips to Gaussians on a latent grid, and back.

1 + f k frames of pixels (f frames, 8 x 8 pixels a latent place by default) become 1 + k latent
frames; the first frame is coded alone, so that an image is a video of one frame. What the networks
see is causal, so that a clip coded in chunks with the pasts of the layers carried along equals the
clip in one go.

Padding. A clip that fills no whole number of latent places is continued by repeating its last frame
and its last row and column of pixels, each row of a batch beyond its own extent; what lies beyond
the latent extent is zero before each convolution and hidden from attention. So padding, whatever it
holds, changes neither values nor gradients of the valid part.
"""

from __future__ import annotations

import abc
import functools
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_partitioning
from jaxtyping import Array, Bool, Float, Shaped

from sora_jax.arrays import Extent, Key, Latent, Size, Video
from sora_jax.models.conv import Dtype, Form, blanked

Remat = Literal["none", "blocks"]
"""What is computed again in the backward pass instead of kept: nothing, or each residual block."""


class Posterior(NamedTuple):
    """A Gaussian at each place of the latent grid."""

    mean: Latent
    log_variance: Latent

    @classmethod
    def of(cls, moments: Float[Array, "batch f h w two_channels"]) -> Posterior:
        """Returns the posterior of means and log variances, one after the other."""
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        # The bounds that published weights were trained with; exp stays finite.
        return cls(mean, jnp.clip(log_variance, -30.0, 20.0))

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


class Autoencoder(nn.Module, abc.ABC):
    """The frame of an autoencoder; a subclass has the `factor`, and codes whole latent places.

    Parameters are float32 whatever `dtype` it computes in; `form` is that of the convolutions, None
    what is fast on the backend.
    """

    latent_channels: int = 16
    dtype: Dtype = "float32"
    remat: Remat = "none"
    form: Form | None = None

    @property
    @abc.abstractmethod
    def factor(self) -> Size:
        """Frames, height and width that one latent place stands for; it is as high as wide."""

    @abc.abstractmethod
    def coded(
        self,
        video: Video,
        past: dict[str, Any] | None,
        covered: Extent | None,
        reach: Extent | None,
    ) -> tuple[Posterior, dict[str, Any]]:
        """Returns the posterior of whole places: `covered` pixels, `reach` latents are valid.

        `past` is None at the beginning of a clip; what is returned is that of the next frames.
        """

    @abc.abstractmethod
    def decoded(
        self, latent: Latent, past: dict[str, Any] | None, extent: Extent | None
    ) -> tuple[Video, dict[str, Any], Extent | None]:
        """Returns float32 pixels of latents, the past of the next, and the extent in pixels."""

    def measured(self) -> None:
        """Makes the parameters for `normalise`; to be called in `setup`."""
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

    def latent_size(self, size: Size) -> Size:
        """Returns the latent grid of a clip: of `factor` (f, s, s) and a clip of (n, h, w) pixels,
        1 + ceil((n - 1) / f), ceil(h / s), ceil(w / s)."""
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

    def pixel_extent(self, extent: Extent) -> Extent:
        """Returns the extent in pixels of one in latents."""
        frames = jnp.maximum(1 + (extent[:, 0] - 1) * self.factor.frames, 0)
        return jnp.concatenate([frames[:, None], extent[:, 1:] * self.factor.height], axis=1)

    def encode(self, video: Video, extent: Extent | None = None) -> Posterior:
        """Returns the posterior of pixels in -1..1, not normalised; `extent` is in pixels.

        Beyond the latent extent mean and log variance are 0.
        """
        video, covered, reach = self.whole_places(video, extent)
        posterior, _ = self.coded(video, None, covered, reach)
        return posterior

    def encode_in_parts(
        self, params: Any, video: Video, extent: Extent, *, latents: int
    ) -> Float[Array, "batch latent_frames rows columns channels"]:
        """Returns the mean of `encode`, not normalised, in the memory that `latents` latent frames
        take; pixels are in -1..1, `extent` is in pixels.

        Of an unbound model: the parts are those of a loop, in which a bound one cannot be called.
        """
        count = self.latent_size(Size(*video.shape[1:4])).frames
        video, covered, reach = self.whole_places(video, extent)
        assert covered is not None and reach is not None
        steps = -(-(count - 1) // latents)
        filled = [(0, 0)] * 5
        filled[1] = (0, 1 + steps * latents * self.factor.frames - video.shape[1])
        video = jnp.pad(video, filled)

        def part(past: Any, start: Any, frames: int) -> Any:
            """The latents that begin at one, and the past of the next."""
            pixel = jnp.maximum(1 + (start - 1) * self.factor.frames, 0)
            seen = jax.lax.dynamic_slice_in_dim(video, pixel, frames, axis=1)
            left = (
                jnp.maximum(each - jnp.stack([begun, 0 * begun, 0 * begun]), 0)
                for each, begun in ((covered, pixel), (reach, start))
            )
            posterior, past = self.apply({"params": params}, seen, past, *left, method="coded")
            return past, posterior.mean

        past, first = part(None, jnp.int32(0), 1)
        if not steps:
            return first
        frames = latents * self.factor.frames
        starts = 1 + latents * jnp.arange(steps)
        _, rest = jax.lax.scan(lambda past, start: part(past, start, frames), past, starts)
        # [steps, batch, latents, ...]
        rest = jnp.moveaxis(rest, 0, 1).reshape(len(video), -1, *rest.shape[3:])
        return jnp.concatenate([first, rest], axis=1)[:, :count]

    def whole_places(
        self, video: Video, extent: Extent | None
    ) -> tuple[Float[Array, "batch frames_out rows columns 3"], Extent | None, Extent | None]:
        """Returns a clip continued to whole latent places, and its extent in pixels and latents."""
        size = self.pixel_size(self.latent_size(Size(*video.shape[1:4])))
        reach = None if extent is None else self.latent_extent(extent)
        covered = None if reach is None else self.pixel_extent(reach)
        video = continued(video, extent, size=size, covered=covered)
        return video.astype(jnp.float32), covered, reach

    def decode(
        self, latent: Latent, extent: Extent | None = None
    ) -> Float[Array, "batch frames height width 3"]:
        """Returns pixels, about -1..1 and not clipped; `extent` is in latents.

        The latents are not normalised ones (see `denormalise`). Beyond the extent pixels are 0.
        """
        latent = blanked(latent.astype(jnp.float32), extent)
        video, _, extent = self.decoded(latent, None, extent)
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
        multiples of those of `factor`. Raises ValueError for other sizes.
        """
        frames, *sides = (n % m for n, m in zip(video.shape[1:4], self.factor, strict=True))
        if any(sides) or frames != (1 % self.factor.frames if past is None else 0):
            raise ValueError(
                f"a chunk of {Size(*video.shape[1:4])} pixels does not fill whole latents: the"
                f" first has 1 + {self.factor.frames}k frames, later ones {self.factor.frames}k,"
                f" height and width are multiples of {self.factor.height}"
            )
        return self.coded(video.astype(jnp.float32), past, None, None)

    def decode_chunk(
        self, latent: Latent, past: dict[str, Any] | None = None
    ) -> tuple[Float[Array, "batch frames height width 3"], dict[str, Any]]:
        """Returns the pixels of the next latents of a clip, and the past of the next call."""
        video, kept, _ = self.decoded(latent.astype(jnp.float32), past, None)
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
