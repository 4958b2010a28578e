"""Causal 3-D convolution with streaming caches, and the resampling layers of a video autoencoder.

Causal convolution of kernel (3, 3, 3): y[k] = sum over t in 0..2 of conv2d(x[k - 2 + t], K[t])
with x[-1] = x[-2] = 0; in space the borders are padded with zeros ("same"). The first frame is
special where time is resampled, so that an image alone is coded as the first frame of a video is:

    down  y[0] = x[0],   y[k] = K[0] x[2k-2] + K[1] x[2k-1] + K[2] x[2k]             k = 1, 2, ...
    up    y[0] = x[0],   (y[2k-1], y[2k]) = K[0] x[k-2] + K[1] x[k-1] + K[2] x[k]    k = 1, 2, ...
          where x[0] and what is before it count as zero.

This is the structure of the Wan 2.1 autoencoder (arXiv 2503.20314).

Every layer is called as `layer(x, past, extent)` and gives back the same three: its output, what it
has to remember for the frames that follow (`past` is None at the start of a clip, and always None
of a layer that looks at one frame only), and the extent of the output. So a clip in one go and a
clip in chunks run the same code (a past that nobody asks for is removed by the compiler), and
`in_turn` runs any list of layers. Features beyond the extent are zeroed before each convolution, so
that what pads a row looks like the border of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_partitioning
from jax import lax
from jaxtyping import Array, Bool, Float

from sora_jax.arrays import Extent, Key
from sora_jax.models.layout import constrained, platform

Form = Literal["native", "stacked"]
"""How a convolution is handed to the compiler; the values agree to rounding.

`native` is the convolution as it stands. `stacked` is one 2-D convolution over frame-shifted copies
stacked along the channels (and, for upsampling, four small ones instead of one over repeated
pixels): on CPU XLA runs it two to five times as fast.
"""

Dtype = Literal["float32", "bfloat16"]
"""Of a computation. Under jax_enable_x64, for checks, a transformer takes float32 for float64."""

Layer = Any
"""A Linen module that is called as said above; its type says nothing of calls."""

Features = Float[Array, "batch frames height width channels"]
Past = Float[Array, "batch past height width channels"] | None

FEATURES = ("batch", "frames", "height", "width", "channels")
_SAME = ((1, 1), (1, 1))

# Row a of an upsampled pair of rows sees two rows of the small image; entry [a, p, t] says whether
# tap t of a kernel of three falls on the p-th of the two.
_TAPS_OF_PHASE = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def platform_form() -> Form:
    """Returns the form that is fast where it is compiled for; read while tracing."""
    return "stacked" if platform() == "cpu" else "native"


def inside(extent: Extent, size: tuple[int, ...]) -> Bool[Array, "batch frames height width"]:
    """Returns which places of a grid of `size` lie within each row's extent."""
    f, h, w = (jnp.arange(length) < extent[:, i, None] for i, length in enumerate(size))
    return f[:, :, None, None] & h[:, None, :, None] & w[:, None, None, :]


def blanked(x: Features, extent: Extent | None) -> Features:
    """Returns features that are zero beyond the extent, whatever stood there; None is no extent."""
    if extent is None:
        return x
    return jnp.where(inside(extent, x.shape[1:4])[..., None], x, jnp.zeros((), x.dtype))


def spatially_halved(extent: Extent) -> Extent:
    """Returns the extent after `SpatialDown`: half of a pixel counts as one."""
    return (extent + jnp.array([0, 1, 1])) // jnp.array([1, 2, 2])


def spatially_doubled(extent: Extent) -> Extent:
    """Returns the extent after `SpatialUp`."""
    return extent * jnp.array([1, 2, 2])


def temporally_halved(extent: Extent) -> Extent:
    """Returns the extent after `TemporalDown`: 1 + k frames become 1 + ceil(k / 2), 0 stays 0."""
    frames = extent[:, 0]
    return extent.at[:, 0].set(jnp.minimum(frames, frames // 2 + 1))


def temporally_doubled(extent: Extent) -> Extent:
    """Returns the extent after `TemporalUp`: 1 + k frames become 1 + 2k, 0 stays 0."""
    return extent.at[:, 0].set(jnp.maximum(2 * extent[:, 0] - 1, 0))


def on_frames(
    x: Features,
    kernel: Float[Array, "tall wide channels channels_out"],
    *,
    padding: tuple[tuple[int, int], tuple[int, int]],
    stride: int = 1,
) -> Float[Array, "batch frames rows columns channels_out"]:
    """Returns a 2-D convolution of every frame."""
    images = x.reshape(-1, *x.shape[2:])
    y = lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _shifted(frames: Array) -> Array:
    """Three copies, one frame apart, along the channels: [batch, frames - 2, ..., 3 channels]."""
    count = frames.shape[1] - 2
    return jnp.concatenate([frames[:, t : count + t] for t in range(3)], axis=-1)


def _causal(frames: Array, kernel: Array, form: Form) -> Array:
    """The convolution of frames that have the two before them in front.

    The kernel is [height, width, frames, channels, features]: so both forms take it as it lies.
    """
    if form == "native":
        return lax.conv_general_dilated(
            frames,
            kernel,
            (1, 1, 1),
            (*_SAME, (0, 0)),  # in the order of the kernel's axes
            dimension_numbers=("NDHWC", "HWDIO", "NDHWC"),
        )
    channels, features = kernel.shape[-2:]
    taps = kernel.reshape(3, 3, 3 * channels, features)
    return on_frames(_shifted(frames), taps, padding=_SAME)


def _enlarged(x: Array, kernel: Array, form: Form) -> Array:
    """The convolution of kernel (3, 3) of the image with each pixel repeated in a square of two."""
    if form == "native":
        repeated = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        return on_frames(repeated, kernel, padding=_SAME)
    # Each pixel of a square sees four different pixels at most: four kernels of (2, 2) with the
    # taps that fall on one pixel summed, which is 2.25 times less work.
    taps = jnp.asarray(_TAPS_OF_PHASE, kernel.dtype)
    phases = jnp.einsum("apt,bqu,tuio->abpqio", taps, taps, kernel)
    rows = [
        jnp.stack(
            [on_frames(x, phases[a, b], padding=((1 - a, a), (1 - b, b))) for b in (0, 1)], axis=4
        )
        for a in (0, 1)
    ]
    batch, frames, height, width, _ = x.shape
    return jnp.stack(rows, axis=3).reshape(batch, frames, 2 * height, 2 * width, -1)


def _recent(past: Past, x: Features) -> Float[Array, "batch frames_seen height width channels"]:
    """The frames of `x` with the two before them in front; zeros at the start of a clip."""
    if past is None:
        return jnp.pad(x, ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([past, x], axis=1)


def in_turn(
    layers: Sequence[Layer], x: Features, past: dict[str, Any] | None, extent: Extent | None
) -> tuple[Float[Array, "batch frames_out rows columns features"], dict[str, Any], Extent | None]:
    """Returns the output of layers one after the other, their pasts by name, the last extent."""
    kept = {}
    for layer in layers:
        name = str(layer.name)
        x, kept[name], extent = layer(x, None if past is None else past[name], extent)
    return x, kept, extent


def scaled_normal(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """Returns normal numbers of variance 1 / (inputs of an output), arXiv 1502.01852 less its 2."""
    # Drawn flat: XLA takes ten times as long to compile random numbers with five axes.
    numbers = jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)
    return numbers / math.sqrt(math.prod(shape[:-1]))


class _Layer(nn.Module):
    """A linear layer: float32 parameters of which `weights` gives copies in the compute dtype."""

    features: int
    dtype: Dtype = "float32"
    form: Form | None = None
    """None is what is fast on the backend."""
    silent: bool = False
    """Whether the kernel starts at zero."""

    def weights(self, *shape: int) -> tuple[Array, Array]:
        taps = (None,) * (len(shape) - 2)
        start = nn.initializers.zeros_init() if self.silent else scaled_normal
        kernel = with_logical_partitioning(start, (*taps, "channels_in", "channels_out"))
        bias = with_logical_partitioning(nn.initializers.zeros_init(), ("channels_out",))
        parameters: Any = (
            self.param("kernel", kernel, shape, jnp.float32),
            self.param("bias", bias, shape[-1:], jnp.float32),
        )
        return parameters[0].astype(self.dtype), parameters[1].astype(self.dtype)


class Pointwise(_Layer):
    """A linear map of the channels of each place: a convolution of kernel (1, 1, 1)."""

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "batch frames height width features"]:
        kernel, bias = self.weights(x.shape[-1], self.features)
        return constrained(x.astype(self.dtype) @ kernel + bias, FEATURES)


class CausalConv(_Layer):
    """A causal convolution of kernel (3, 3, 3) that keeps the size; remembers two frames."""

    @nn.compact
    def __call__(
        self, x: Features, past: Past = None, extent: Extent | None = None
    ) -> tuple[Float[Array, "batch frames height width features"], Past, Extent | None]:
        kernel, bias = self.weights(3, 3, 3, x.shape[-1], self.features)
        frames = _recent(past, blanked(x.astype(self.dtype), extent))
        y = _causal(frames, kernel, self.form or platform_form()) + bias
        return constrained(y, FEATURES), frames[:, -2:], extent


class SpatialDown(_Layer):
    """Halves height and width (rounded up) with a convolution of kernel (3, 3) on each frame.

    Output pixel i sees the input pixels 2i, 2i + 1 and 2i + 2, zero beyond the border.
    """

    @nn.compact
    def __call__(
        self, x: Features, past: None = None, extent: Extent | None = None
    ) -> tuple[Float[Array, "batch frames rows columns features"], None, Extent | None]:
        kernel, bias = self.weights(3, 3, x.shape[-1], self.features)
        x = blanked(x.astype(self.dtype), extent)
        rows, columns = ((0, 1 + length % 2) for length in x.shape[2:4])
        y = on_frames(x, kernel, padding=(rows, columns), stride=2) + bias
        after = None if extent is None else spatially_halved(extent)
        return constrained(y, FEATURES), None, after


class SpatialUp(_Layer):
    """Doubles height and width: each pixel repeated, then a convolution of kernel (3, 3)."""

    @nn.compact
    def __call__(
        self, x: Features, past: None = None, extent: Extent | None = None
    ) -> tuple[Float[Array, "batch frames rows columns features"], None, Extent | None]:
        kernel, bias = self.weights(3, 3, x.shape[-1], self.features)
        x = blanked(x.astype(self.dtype), extent)
        y = _enlarged(x, kernel, self.form or platform_form()) + bias
        after = None if extent is None else spatially_doubled(extent)
        return constrained(y, FEATURES), None, after


class TemporalDown(_Layer):
    """1 + 2k frames become 1 + k at the start of a clip, and 2k frames k later on.

    Remembers one frame. `features` are as many as the input has, since the first frame passes.
    """

    @nn.compact
    def __call__(
        self, x: Features, past: Past = None, extent: Extent | None = None
    ) -> tuple[Float[Array, "batch fewer height width features"], Past, Extent | None]:
        kernel, bias = self.weights(3, x.shape[-1], self.features)
        x = blanked(x.astype(self.dtype), extent)
        frames = x if past is None else jnp.concatenate([past, x], axis=1)
        triples = [frames[:, 0:-2:2], frames[:, 1::2], frames[:, 2::2]]
        y = jnp.concatenate(triples, axis=-1) @ kernel.reshape(-1, self.features) + bias
        if past is None:
            y = jnp.concatenate([x[:, :1], y], axis=1)
        after = None if extent is None else temporally_halved(extent)
        return constrained(y, FEATURES), x[:, -1:], after


class TemporalUp(_Layer):
    """1 + k frames become 1 + 2k at the start of a clip, and k frames 2k later on.

    Remembers two frames, the first of the clip never. `features` are as many as the input has.
    """

    @nn.compact
    def __call__(
        self, x: Features, past: Past = None, extent: Extent | None = None
    ) -> tuple[Float[Array, "batch more height width features"], Past, Extent | None]:
        kernel, bias = self.weights(3, x.shape[-1], 2 * self.features)
        x = blanked(x.astype(self.dtype), extent)
        frames = _recent(past, x[:, 1:] if past is None else x)
        pairs = _shifted(frames) @ kernel.reshape(-1, 2 * self.features) + bias
        batch, count, height, width, _ = pairs.shape
        pairs = pairs.reshape(batch, count, height, width, 2, self.features)
        y = jnp.moveaxis(pairs, 4, 2).reshape(batch, 2 * count, height, width, self.features)
        if past is None:
            y = jnp.concatenate([x[:, :1], y], axis=1)
        after = None if extent is None else temporally_doubled(extent)
        return constrained(y, FEATURES), frames[:, -2:], after
