"""Where and when a token is: diffusion time as sinusoids, and rotary positions.

Sinusoids of a time t in 0..1, as Wan 2.1 has them (arXiv 2503.20314, after arXiv 1706.03762):
[cos(1000 t w), sin(1000 t w)],  w_i = 10000^(-i / half).

Rotary positions (arXiv 2104.09864): the two halves of a head are the real and imaginary parts of
head_dim / 2 complex numbers, each turned by the angle position * fastest * base^(-2 i / dim), of
`Rotary`: 1 and 10,000 as in Wan. The head is
split over frames, height and width as in Wan, 44 / 42 / 42 of 128. (Wan pairs neighbours, 2 i and
2 i + 1, where we pair halves, i and i + head_dim / 2: the same attention with the columns of two
kernels in another order, which its importer sees to, and no strided access in the inner loop.)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from sora_jax.arrays import Size
from sora_jax.models.conv import Dtype

SINUSOIDS = 256
"""Numbers that stand for one diffusion time."""

_LONGEST = 10_000.0


def linear(
    features: int,
    names: tuple[str | None, str | None],
    dtype: Dtype,
    *,
    kernel: nn.initializers.Initializer = nn.initializers.xavier_uniform(),  # noqa: B008
    bias: nn.initializers.Initializer = nn.initializers.zeros_init(),  # noqa: B008
    name: str | None = None,
) -> nn.Dense:
    """Returns a linear layer whose kernel [in, out] carries the logical axes `names`.

    Parameters are float32 and computation is in `dtype` (see `real`).
    """
    return nn.Dense(
        features,
        name=name,
        dot_general=_product,
        dtype=real(dtype),
        param_dtype=float,
        kernel_init=nn.with_logical_partitioning(kernel, names),
        bias_init=nn.with_logical_partitioning(bias, names[1:]),
    )


def real(dtype: Dtype) -> Any:
    """Returns the type of numbers that `dtype` names; for float32 whatever JAX calls float."""
    return jax.dtypes.canonicalize_dtype(float) if dtype == "float32" else jnp.dtype(dtype)


def _product(x: Any, kernel: Any, dimensions: Any, precision: Any = None, **settings: Any) -> Any:
    """As `lax.dot_general`, on rows in one dimension where no mesh could have cut them in two.

    On CPU, XLA computes the gradient of a kernel from rows in two dimensions half as fast.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1:
        return lax.dot_general(x, kernel, dimensions, precision, **settings)
    rows = x.reshape(-1, x.shape[-1])
    out = lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), precision, **settings)
    return out.reshape(*x.shape[:-1], -1)


def sinusoids(time: Float[Array, "*places"]) -> Float[Array, "*places sinusoids"]:
    """Returns SINUSOIDS numbers for each `time` in 0..1: cosines, then sines."""
    half = SINUSOIDS // 2
    frequencies = _LONGEST ** (-np.arange(half) / half)
    angles = (1000.0 * time)[..., None] * jnp.asarray(frequencies, float)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nn.Module):
    """Diffusion time to an embedding: sinusoids, linear, SiLU, linear; all of it in float32."""

    width: int

    def setup(self) -> None:
        self.up = linear(self.width, (None, "time_embed"), "float32")
        self.down = linear(self.width, ("time_embed", "embed"), "float32")

    def __call__(self, time: Float[Array, "*places"]) -> Float[Array, "*places width"]:
        return self.down(nn.silu(self.up(sinusoids(time))))


def split(head_dim: int) -> Size:
    """Returns how many numbers of a head turn with frames, height and width: 44, 42, 42 of 128."""
    space = 2 * (head_dim // 6)
    return Size(head_dim - 2 * space, space, space)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary:
    """How fast positions turn.

    fastest  radians from one token to the next, of the fastest of the turns of an axis.
    base     how many times slower the slowest is, nearly.

    A small head has five turns an axis or so. From 1 down to 1 / 10,000 but two of them differ
    within a grid of ten tokens, and tokens side by side hardly: a small model of small grids is
    better off with faster ones.
    """

    fastest: float = 1.0
    base: float = _LONGEST

    def angles(self, length: int, dim: int) -> Float[np.ndarray, "positions half"]:
        """Returns the angles of positions 0..length - 1 on an axis of `dim` numbers, in float64."""
        turns = self.fastest * self.base ** (-np.arange(0, dim, 2) / dim)
        return np.outer(np.arange(length), turns)


ROTARY = Rotary()


def rotary(
    grid: Size, head_dim: int, turns: Rotary = ROTARY
) -> tuple[Float[Array, "tokens half"], Float[Array, "tokens half"]]:
    """Returns cosines and sines of all tokens of a grid, frames slowest, for heads of `head_dim`.

    The tables of the three axes are exact and small; only on the device do they become one of
    tokens, which as a constant would swell the program.
    """
    turned = [turns.angles(length, dim) for length, dim in zip(grid, split(head_dim), strict=True)]

    def table(function: Any) -> Float[Array, "tokens half"]:
        f, h, w = (jnp.asarray(function(a), float) for a in turned)
        parts = f[:, None, None], h[None, :, None], w[None, None, :]
        spread = [jnp.broadcast_to(part, (*grid, part.shape[-1])) for part in parts]
        return jnp.concatenate(spread, axis=-1).reshape(-1, head_dim // 2)

    return table(np.cos), table(np.sin)


def feature_count(count: int) -> int:
    """Returns how many numbers `places` gives a token."""
    return count**3 + 3


def places(
    extent: Int[Array, "batch 3"], grid: Size, count: int
) -> Float[Array, "batch tokens features"]:
    """Returns where in its clip each token of a grid lies, as `feature_count(count)` numbers.

    Of each axis of n tokens (`extent`: frames, height, width) a token lies at a fraction u. The
    features are the products cos(pi a u_f) cos(pi b u_h) cos(pi c u_w) for a, b, c = 0..count - 1,
    and log2 n of each axis. Frames have u from 0 in the first, which so is what an image is, to 1
    in the last; rows and columns their middles, (i + 1/2) / n.

    Rotary positions say where tokens lie from one another, and next to nothing of where in the
    picture. That something moves left means, as long as there is but noise to see, that it is on
    the right early and on the left late: a matter of a caption, a column and a frame, no two of
    which say anything. Hence the products; a sum of what each axis says would leave the model to
    find that. Fractions suit all sizes (NaViT, arXiv 2307.06304, section 2.1).
    """
    batch, waves, sizes = len(extent), [], []
    for axis, length in enumerate(grid):
        n = jnp.maximum(extent[:, axis, None], 1).astype(float)
        index = jnp.arange(length, dtype=float)
        u = index / jnp.maximum(n - 1, 1) if axis == 0 else (index + 0.5) / n
        waves.append(jnp.cos(jnp.pi * jnp.arange(count) * u[..., None]))
        sizes.append(jnp.log2(n))
    products = jnp.einsum("bfi,bhj,bwk->bfhwijk", *waves).reshape(batch, -1, count**3)
    size = jnp.broadcast_to(jnp.stack(sizes, -1), (batch, products.shape[1], 3))
    return jnp.concatenate([products, size], axis=-1)


def rotate(
    x: Float[Array, "batch tokens heads head_dim"],
    cosine: Float[Array, "tokens half"],
    sine: Float[Array, "tokens half"],
) -> Float[Array, "batch tokens heads head_dim"]:
    """Turns the halves of each head, as complex numbers, by the angles of the tokens."""
    halves = x.reshape(*x.shape[:-1], 2, -1)
    sines = jnp.stack([-sine, sine], axis=1)[:, None]
    turned = halves * cosine[:, None, None] + halves[..., ::-1, :] * sines
    return turned.reshape(x.shape).astype(x.dtype)
