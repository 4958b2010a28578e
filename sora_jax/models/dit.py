"""The diffusion transformer: a latent with noise, its noise field and a text in, a latent out.

The structure is that of Wan 2.1 (arXiv 2503.20314): full attention over all spacetime patches with
RMS-normalised queries and keys and rotary positions, cross-attention to the text, and one time
projection shared by all layers, to which each adds a table of its own:

    (a, b, c, d, e, f) = projection(SiLU(time)) + table
    x = x + c self_attention(norm(x) (1 + b) + a)
    x = x + cross_attention(affine_norm(x), text)
    x = x + f mlp(norm(x) (1 + e) + d)

Time is a field over the latent grid (see `arrays.Sigma`). Its projection, six times as wide as a
token, is computed for the places that differ only: one for a clip, or one for each frame.

For training from scratch all that enters the residual stream starts at zero, as adaLN-zero of
arXiv 2212.09748 (which compares it with other starts): the time projection and the tables, so that
every gate is shut; the output of cross-attention, which has no gate; the last layer. (Wan starts
its tables at random, which opens the gates a little.) Other kernels are Xavier-uniform.
"""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.spmd import with_logical_partitioning
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from sora_jax.arrays import Extent, Known, Latent, Sigma, Size, Tokens
from sora_jax.models.attention import AUTO, PRODUCT, Attention, MultiHead
from sora_jax.models.conv import Dtype, blanked, inside
from sora_jax.models.embeddings import ROTARY, Rotary, TimeEmbedding, linear, places, real, rotary
from sora_jax.models.layout import constrained, parts
from sora_jax.models.modulation import affine_norm, gated, modulate
from sora_jax.models.patches import (
    collected,
    dealt,
    every,
    largest,
    patchify,
    token_extent,
    token_grid,
    unpatchify,
)
from sora_jax.models.remat import INPUT, Remat, policy

_TOKENS = ("batch", "tokens", "activation_embed")
_ZEROS = nn.initializers.zeros_init()
_ONES = nn.initializers.ones_init()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text as the layers read it; the same at every step of sampling, so computed once.

    Texts end at their length: keys beyond are not `valid`.
    """

    keys: Float[Array, "layers batch text heads head_dim"]
    values: Float[Array, "layers batch text heads head_dim"]
    valid: Bool[Array, "batch text"]
    pooled: Float[Array, "batch width"] | None = None


class Block(nn.Module):
    """One layer, as a body of a scan: the tokens are what it carries."""

    width: int
    heads: int
    mlp: int
    dtype: Dtype
    near: float
    attention: Attention

    def setup(self) -> None:
        attend = partial(MultiHead, self.width, self.heads, self.dtype, how=self.attention)
        self.self_attention = attend(nn.initializers.xavier_uniform(), self.near)
        self.cross_attention = attend(_ZEROS)
        self.mlp_in = linear(self.mlp, ("embed", "mlp"), self.dtype)
        self.mlp_out = linear(self.width, ("mlp", "embed"), self.dtype)
        named = with_logical_partitioning
        self.cross_scale: Any = self.param("cross_scale", named(_ONES, ("embed",)), (self.width,))
        self.cross_bias: Any = self.param("cross_bias", named(_ZEROS, ("embed",)), (self.width,))
        self.table: Any = self.param("table", named(_ZEROS, (None, "embed")), (6, self.width))

    def read_text(self, carry: None, text: Array) -> tuple[None, tuple[Array, Array]]:
        """Returns the keys and values of the text, for `__call__`."""
        return carry, self.cross_attention.keys_values(text, axis="text")

    def __call__(
        self,
        x: Tokens,
        text: tuple[Array, Array],
        text_valid: Array,
        valid: Array | None,
        modulation: Float[Array, "batch places 6 embed"],
        turn: tuple[Array, Array],
    ) -> tuple[Tokens, None]:
        x = checkpoint_name(x, INPUT)
        a, b, c, d, e, f = jnp.moveaxis(modulation + self.table, 2, 0)
        attend, inner = self.self_attention, modulate(x, a, b)
        keys, values = attend.keys_values(inner, turn)
        x = gated(x, attend.read(attend.queries(inner, turn), keys, values, valid=valid), c)
        queries = self.cross_attention.queries(affine_norm(x, self.cross_scale, self.cross_bias))
        x = x + self.cross_attention.read(queries, *text, valid=text_valid, axis="text")
        hidden = self.mlp_in(modulate(x, d, e))
        hidden = constrained(hidden, ("batch", "tokens", "activation_mlp"))
        change = self.mlp_out(nn.gelu(checkpoint_name(hidden, PRODUCT)))
        x = gated(x, checkpoint_name(change, PRODUCT), f)
        return constrained(x, _TOKENS), None


def _layers(depth: int, remat: Remat) -> Any:
    """Returns `Block` as `depth` layers with stacked parameters, scanned over by both methods."""
    block = nn.remat(Block, prevent_cse=False, policy=policy(remat), methods=["__call__"])
    stacked = {
        "variable_axes": {"params": 0},
        "split_rngs": {"params": True},
        "metadata_params": {nn.PARTITION_NAME: "layers"},
        "length": depth,
    }
    axes = {"read_text": nn.broadcast, "__call__": (0, *(nn.broadcast,) * 4)}
    return nn.scan(block, methods={name: stacked | {"in_axes": a} for name, a in axes.items()})


class DiT(nn.Module):
    """A diffusion transformer over latents of any size.

    width            numbers of a token; a multiple of `heads`, and an even number for each head
    mlp              hidden width of the layers' MLP
    text_width       width of the text features
    patch            places of the latent that make a token: frames, height, width
    rotary           how fast positions turn
    pooled           whether all of the text together joins the diffusion time, and so modulates the
                     layers (SD3, arXiv 2403.03206); Wan has cross-attention alone
    places           of each axis, cosines that tell tokens where in the clip they lie
                     (`embeddings.places`); 0 tells them nothing, as in Wan
    near             how much tokens attend to near ones from the start (`attention.MultiHead`)
    attention        which kernels compute it
    dtype            of the computation; parameters, norms, softmax and modulation are float32
    remat            what the backward pass computes again, to save memory
    """

    width: int
    depth: int
    heads: int
    mlp: int
    latent_channels: int = 16
    text_width: int = 4096
    patch: tuple[int, int, int] = (1, 2, 2)
    rotary: Rotary = ROTARY
    pooled: bool = False
    places: int = 0
    near: float = 0.0
    attention: Attention = AUTO
    dtype: Dtype = "float32"
    remat: Remat = "none"

    def setup(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"DiT.width={self.width} must be a multiple of 2 x heads={self.heads}")
        if self.remat not in get_args(Remat):
            raise ValueError(f"DiT.remat={self.remat!r}: give one of {', '.join(get_args(Remat))}")
        width, dtype = self.width, self.dtype
        self.patches = linear(width, ("latent_channels", "embed"), dtype)
        if self.pooled:
            self.pooled_in = linear(width, ("text_embed", "embed"), dtype)
        if self.places:
            self.places_in = linear(width, (None, "embed"), dtype)
        self.time = TimeEmbedding(width)
        self.time_projection = linear(6 * width, ("embed", "modulation"), "float32", kernel=_ZEROS)
        named = with_logical_partitioning
        self.known: Any = self.param("known", named(_ZEROS, ("embed",)), (width,))
        self.text_in = linear(width, ("text_embed", "mlp"), dtype)
        self.text_out = linear(width, ("mlp", "embed"), dtype)
        layers = _layers(self.depth, self.remat)
        self.layers = layers(width, self.heads, self.mlp, dtype, self.near, self.attention)
        self.table: Any = self.param("table", named(_ZEROS, (None, "embed")), (2, width))
        values = self.patch[0] * self.patch[1] * self.patch[2] * self.latent_channels
        self.head = linear(values, ("embed", "latent_channels"), dtype, kernel=_ZEROS)

    def __call__(
        self,
        latent: Latent,
        sigma: Sigma,
        text_features: Float[Array, "batch text text_width"],
        text_length: Int[Array, "batch"],
        *,
        extent: Extent | None = None,
        known: Known | None = None,
    ) -> Latent:
        """Returns a float32 prediction of the latent's shape; the objective says of what.

        Places beyond `extent` (valid frames, height, width of each row, in latents) and text
        beyond `text_length` change nothing, whatever they hold; the output is 0 there. `sigma` is
        0..1; `known` marks given places, in a clip where any are.
        """
        prompt = self.read_text(text_features, text_length)
        return self.denoise(latent, sigma, prompt, extent=extent, known=known)

    def read_text(
        self,
        text_features: Float[Array, "batch text text_width"],
        text_length: Int[Array, "batch"],
    ) -> Prompt:
        """Returns what the layers read of a text; `denoise` takes it at every step of sampling."""
        valid = jnp.arange(text_features.shape[1]) < text_length[:, None]
        features = jnp.where(valid[..., None], text_features, 0.0).astype(real(self.dtype))
        text = self.text_out(nn.gelu(self.text_in(features)))
        _, (keys, values) = self.layers.read_text(None, text)
        pooled = None
        if self.pooled:
            # The root, not the number: a word counts for more in a mean of few than of many.
            root = jnp.sqrt(jnp.maximum(text_length, 1))[:, None].astype(features.dtype)
            pooled = self.pooled_in(features.sum(1) / root).astype(float)
        return Prompt(keys=keys, values=values, valid=valid, pooled=pooled)

    def denoise(
        self,
        latent: Latent,
        sigma: Sigma,
        prompt: Prompt,
        *,
        extent: Extent | None = None,
        known: Known | None = None,
    ) -> Latent:
        """Returns the same as `__call__`, for a text that has been read."""
        width = latent.shape[3]
        if more := self._columns_more(Size(*latent.shape[1:4])):
            if extent is None:
                extent = jnp.broadcast_to(jnp.array(latent.shape[1:4]), (len(latent), 3))
            latent, sigma, known = (_wider(each, width, more) for each in (latent, sigma, known))
        return self._denoised(latent, sigma, prompt, extent, known)[:, :, :, :width]

    def _columns_more(self, size: Size) -> int:
        """How many columns to add, that the devices that share a clip have as many tokens of each
        frame."""
        grid, devices = token_grid(size, self.patch), parts("tokens")
        columns = next(n for n in itertools.count(grid.width) if grid.height * n % devices == 0)
        return columns * self.patch[2] - size.width if columns > grid.width else 0

    def _denoised(
        self,
        latent: Latent,
        sigma: Sigma,
        prompt: Prompt,
        extent: Extent | None,
        known: Known | None,
    ) -> Latent:
        size = Size(*latent.shape[1:4])
        grid, valid = token_grid(size, self.patch), None
        latent = blanked(latent.astype(float), extent)
        if extent is not None:
            valid = inside(token_extent(extent, self.patch), grid).reshape(latent.shape[0], -1)

        def in_order(tokens: Array) -> Array:
            return dealt(tokens, grid.frames, parts("tokens"))

        x = self.patches(in_order(patchify(latent.astype(real(self.dtype)), self.patch)))
        if self.places:
            whole = jnp.array([size]) if extent is None else extent
            where = places(token_extent(whole, self.patch), grid, self.places)
            x = x + self.places_in(in_order(where.astype(real(self.dtype))))
        if valid is not None:
            valid = in_order(valid)
        time = _runs(self._time(sigma, known, extent), grid)
        if time.shape[1] == x.shape[1]:
            time = in_order(time)
        if prompt.pooled is not None:
            time = time + prompt.pooled[:, None]
        modulation = self.time_projection(nn.silu(time))
        modulation = modulation.reshape(*time.shape[:2], 6, self.width)
        turn = rotary(grid, self.width // self.heads, self.rotary)
        turn = tuple(in_order(each[None])[0] for each in turn)
        x = constrained(x, _TOKENS)
        text = prompt.keys, prompt.values
        x, _ = self.layers(x, text, prompt.valid, valid, modulation, turn)
        out = self.head(modulate(x, self.table[0] + time, self.table[1] + time))
        out = collected(out, grid.frames, parts("tokens"))
        return blanked(unpatchify(out.astype(float), size, patch=self.patch), extent)

    def _time(self, sigma: Sigma, known: Known | None, extent: Extent | None) -> Array:
        """Returns the time embedding [batch, #f, #h, #w, width] of the token grid."""
        if extent is not None:
            sigma = jnp.where(inside(extent, sigma.shape[1:]), sigma, 0.0)
        time = self.time(largest(sigma, self.patch))
        if known is None:
            return time
        if extent is not None:
            known = known | ~inside(extent, known.shape[1:])
        return time + every(known, self.patch)[..., None] * self.known


def _wider(field: Any, width: int, more: int) -> Any:
    """A latent, or a field on it, with columns more, unless it is the same in all."""
    if field is None or field.shape[3] != width:
        return field
    return jnp.pad(field, [(0, 0)] * 3 + [(0, more)] + [(0, 0)] * (field.ndim - 4))


def _runs(field: Array, grid: Size) -> Array:
    """Returns [batch, places, ...] of a field [batch, #f, #h, #w, ...] on the token grid.

    Tokens are in order of frames, height, width; a place stands for a run of them of equal length:
    all if the field is constant, those of a frame if it changes with frames only. Devices that
    share a clip have but a part of each row of a frame, so that no run is a row.
    """
    kept = next(k for k in range(4) if field.shape[1 + k : 4] == (1,) * (3 - k))
    kept = 3 if kept == 2 and parts("tokens") > 1 else kept
    shape = (field.shape[0], *grid[:kept], *(1,) * (3 - kept), field.shape[-1])
    return jnp.broadcast_to(field, shape).reshape(field.shape[0], -1, field.shape[-1])


_small = partial(DiT, text_width=256, pooled=True, places=4)

PRESETS: dict[str, partial[DiT]] = {
    "1M": partial(_small, width=128, depth=3, heads=4, mlp=512),
    "2M": partial(_small, width=128, depth=6, heads=4, mlp=512),
    "3M": partial(_small, width=160, depth=6, heads=5, mlp=640),
    "4M": partial(_small, width=192, depth=6, heads=6, mlp=768),
    "15M": partial(_small, width=384, depth=6, heads=6, mlp=1536),
    "60M": partial(_small, width=512, depth=14, heads=8, mlp=2048),
    "200M": partial(_small, width=896, depth=15, heads=14, mlp=3584),
    "600M": partial(DiT, width=1152, depth=28, heads=18, mlp=4608),
    "1.3B": partial(DiT, width=1536, depth=30, heads=12, mlp=8960),
    "5B": partial(DiT, width=3072, depth=30, heads=24, mlp=14336, latent_channels=48),
    "14B": partial(DiT, width=5120, depth=40, heads=40, mlp=13824),
}
"""Sizes by their number of parameters. From 1.3B they are those of Wan 2.1 and 2.2; 5B has the 48
channels of Wan 2.2's autoencoder. Those below 600M are to learn from little: they read the
features of a text encoder that is trained with them, and are told more of places and text."""
