"""Parameters, operations and bytes of the models by formula, for any size, without running them.

A multiply-accumulate is two operations (FLOPs). Matrix products, convolutions (their taps beyond
the border left out) and attention count; elementwise work, a few percent, does not. A training step
is three forward passes, as in arXiv 2204.02311: what is computed again to save memory is no work
done. XLA's own count takes the body of a scan once, and so is of no use for the whole.

Bytes of activations are estimates, to tell what fits from what does not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

from sora_jax.arrays import Size
from sora_jax.models.attention import STORED
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.conv import backend_form
from sora_jax.models.dit import DiT
from sora_jax.models.embeddings import SINUSOIDS
from sora_jax.models.patches import token_grid
from sora_jax.models.text import PAD, ByteEncoder, LabelEncoder
from sora_jax.models.vae import VAE

_WIDE = 4
"""Bytes of a float32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model costs for a batch.

    tokens          of the whole batch, padding included; places of the latent grid, of a VAE
    flops           of a forward pass
    kept_bytes      of activations, that a backward pass needs
    working_bytes   of activations at the peak of a forward pass without gradient
    """

    parameters: int
    tokens: int
    flops: int
    kept_bytes: int
    working_bytes: int

    @property
    def training_flops(self) -> int:
        """Operations of a training step."""
        return 3 * self.flops

    @property
    def parameter_bytes(self) -> int:
        """Of float32 parameters."""
        return _WIDE * self.parameters

    @property
    def state_bytes(self) -> int:
        """Of parameters, their gradient, AdamW's two moments and the moving average."""
        return 5 * self.parameter_bytes

    @property
    def training_bytes(self) -> int:
        """At the peak of a training step, where a layer has its values and their gradients."""
        return self.state_bytes + self.kept_bytes + 2 * self.working_bytes


def transformer(model: DiT, size: Size, *, text: int, batch: int = 1, times: int = 1) -> Cost:
    """Returns the cost for `size` latents and `text` text positions a row.

    `times` is the number of diffusion times a row: 1, or one for each frame or token.
    """
    width, depth, hidden = model.width, model.depth, model.mlp
    values = math.prod(model.patch) * model.latent_channels
    tokens, texts = batch * math.prod(token_grid(size, model.patch)), batch * text
    per_row = tokens // batch if batch else 0
    products = tokens * (6 * width**2 + 2 * width * hidden) + 2 * texts * width**2
    layer = 2 * products + 4 * tokens * width * (per_row + text)
    flops = depth * layer + 2 * (
        2 * tokens * values * width
        + batch * times * (SINUSOIDS * width + 7 * width**2)
        + texts * (model.text_width * width + width**2)
    )
    number = _bytes(model.dtype)
    modulation = 6 * _WIDE * batch * times * width
    prompt = 2 * depth * number * texts * width
    # Of each layer: its input and what `dit._KEPT` names; and once, all of the layer at hand.
    kept = {"none": 10 * width + hidden, "save_attention": 3 * width, "full": width}[model.remat]
    weights = 0 if model.remat == "full" else _stored_weights(model, batch, per_row, text)
    at_hand = number * tokens * (_LAYER_WIDTHS * width + 2 * hidden)
    working = number * tokens * max(_ATTENTION_WIDTHS * width, 3 * width + 2 * hidden)
    return Cost(
        parameters=transformer_parameters(model),
        tokens=tokens,
        flops=flops,
        kept_bytes=depth * number * (tokens * kept + weights) + at_hand + prompt + modulation,
        working_bytes=working + prompt + modulation,
    )


def _stored_weights(model: DiT, batch: int, tokens: int, text: int) -> int:
    """Returns how many weights a layer's attentions keep: all, or none where they are many."""
    counts = (batch * model.heads * tokens * keys for keys in (tokens, text))
    return sum(count for count in counts if _WIDE * count <= STORED)


# How many arrays as wide as a token a layer of `dit.Block` keeps for its backward pass, and has at
# once around attention; and how many a norm, SiLU and convolution of `vae.ResidualBlock` keep for
# each array they are given. Counted in what XLA makes of them.
_LAYER_WIDTHS = 20
_ATTENTION_WIDTHS = 9
_KEPT_COPIES = 6


def transformer_parameters(model: DiT) -> int:
    """Returns the number of parameters, the embedding of `known` included."""
    width, hidden = model.width, model.mlp
    values = math.prod(model.patch) * model.latent_channels
    attention = 4 * _linear(width, width) + 2 * width
    layer = 2 * attention + _linear(width, hidden) + _linear(hidden, width) + 2 * width + 6 * width
    time = _linear(SINUSOIDS, width) + _linear(width, width) + _linear(width, 6 * width)
    text = _linear(model.text_width, width) + _linear(width, width)
    ends = _linear(values, width) + _linear(width, values) + 2 * width
    return model.depth * layer + time + text + ends + width


def text_encoder(model: ByteEncoder | LabelEncoder, *, text: int, batch: int = 1) -> Cost:
    """Returns the cost for `text` tokens a row."""
    tokens, width = batch * text, model.width
    if isinstance(model, LabelEncoder):
        row = _WIDE * tokens * width
        parameters = (model.classes + 1) * width
        return Cost(
            parameters=parameters, tokens=tokens, flops=0, kept_bytes=row, working_bytes=row
        )
    window = _linear(2 * model.stride * width, width) if model.stride > 1 else 0
    text = -(-text // model.stride)
    tokens = batch * text
    layer = 4 * _linear(width, width) + _linear(width, 4 * width) + _linear(4 * width, width)
    number = _bytes(model.dtype) * tokens * width
    return Cost(
        parameters=model.depth * (layer + 4 * width) + (PAD + 2) * width + window,
        tokens=tokens,
        flops=2 * tokens * window
        + model.depth * (24 * tokens * width**2 + 4 * tokens * text * width),
        kept_bytes=model.depth * number * (_LAYER_WIDTHS + 8),
        working_bytes=number * (3 + 8),
    )


def autoencoder(model: Autoencoder, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of encoding and decoding clips of `size` pixels."""
    both = encoding(model, size, batch=batch), decoding(model, size, batch=batch)
    return Cost(
        parameters=sum(cost.parameters for cost in both) + 2 * model.latent_channels,
        tokens=both[0].tokens,
        flops=sum(cost.flops for cost in both),
        kept_bytes=sum(cost.kept_bytes for cost in both),
        working_bytes=max(cost.working_bytes for cost in both),
    )


def encoding(model: Autoencoder, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of encoding clips of `size` pixels, of the encoder alone."""
    return _of_layers(model, _layers(model, size)[0], size, batch)


def decoding(model: Autoencoder, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of decoding to clips of `size` pixels, of the decoder alone."""
    return _of_layers(model, _layers(model, size)[1], size, batch)


def sampling_bytes(
    model: DiT,
    vae: Autoencoder,
    size: Size,
    *,
    text: int,
    latents_at_once: int,
    batch: int = 1,
    estimates: int = 1,
) -> int:
    """Returns the bytes at the peak of sampling `batch` clips of `size` pixels together.

    The parameters of both, and the greater of a step (which makes two `estimates` of each clip with
    guidance) and the decoder, which takes `latents_at_once` latent frames.
    """
    step = transformer(model, vae.latent_size(size), text=text, batch=batch * estimates)
    frames = min(size.frames, vae.pixel_size(Size(latents_at_once + 1, 1, 1)).frames)
    last = decoding(vae, size._replace(frames=frames), batch=batch)
    parameters = step.parameter_bytes + autoencoder(vae, size).parameter_bytes
    return parameters + max(step.working_bytes, last.working_bytes)


class _Layer(NamedTuple):
    """A layer of the autoencoder, for one clip: numbers it reads, makes and keeps."""

    parameters: int
    flops: int
    read: int = 0
    made: int = 0
    kept: int = 0


def _layers(model: Autoencoder, size: Size) -> tuple[list[_Layer], list[_Layer]]:
    """The layers of encoder and decoder. Raises TypeError for an autoencoder of another kind."""
    if isinstance(model, VAE):
        return list(_encoder(model, size)), list(_decoder(model, size))
    if isinstance(model, BlockVAE):
        pixels, latents = 3 * math.prod(model.block), model.latent_channels
        encoder, decoder = (
            [*_block_coder(model, *ends, size), _transform(model, model.latent_size(size))]
            for ends in ((pixels, 2 * latents), (latents, pixels))
        )
        return encoder, decoder
    raise TypeError(f"the cost of a {type(model).__name__} is not known")


def _of_layers(model: Autoencoder, layers: list[_Layer], size: Size, batch: int) -> Cost:
    number = batch * _bytes(model.dtype)
    # Stacked convolutions copy their input three times over, and a block has its input besides.
    copies = 4 if (model.form or backend_form()) == "stacked" else 3
    return Cost(
        parameters=sum(layer.parameters for layer in layers),
        tokens=batch * math.prod(model.latent_size(size)),
        flops=batch * sum(layer.flops for layer in layers),
        kept_bytes=number * sum(layer.kept for layer in layers),
        working_bytes=number * max(copies * layer.read + layer.made for layer in layers),
    )


def _encoder(model: VAE, size: Size) -> Iterator[_Layer]:
    pixels, width = model.pixel_size(model.latent_size(size)), model.base
    grid = pixels
    yield _conv(3, width, grid)
    for level, multiplier in enumerate(model.multipliers):
        for _ in range(model.blocks):
            yield from _block(model, width, model.base * multiplier, grid)
            width = model.base * multiplier
        if level < len(model.temporal):
            grid = Size(grid.frames, grid.height // 2, grid.width // 2)
            taps = grid.frames * (3 * grid.height - 1) * (3 * grid.width - 1)
            finer, out = grid._replace(height=4 * grid.height), model.base * multiplier
            yield _layer(9, width, out, taps, grid, finer)
            width = out
            if model.temporal[level]:
                finer, grid = grid, grid._replace(frames=1 + grid.frames // 2)
                taps = 3 * (grid.frames - 1) * grid.height * grid.width
                yield _layer(3, width, width, taps, grid, finer)
    yield from _middle(model, width, model.base * model.multipliers[-1], grid)
    width = model.base * model.multipliers[-1]
    yield from _end(width, 2 * model.latent_channels, grid)
    yield _pointwise(2 * model.latent_channels, 2 * model.latent_channels, grid)


def _decoder(model: VAE, size: Size) -> Iterator[_Layer]:
    grid, width = model.latent_size(size), model.base * model.multipliers[-1]
    yield _pointwise(model.latent_channels, model.latent_channels, grid)
    yield _conv(model.latent_channels, width, grid)
    yield from _middle(model, width, width, grid)
    for level, multiplier in enumerate(reversed(model.multipliers)):
        for _ in range(model.blocks + 1):
            yield from _block(model, width, model.base * multiplier, grid)
            width = model.base * multiplier
        if level < len(model.temporal):
            if model.temporal[::-1][level]:
                taps = 3 * (grid.frames - 1) * grid.height * grid.width
                coarser, grid = grid, grid._replace(frames=2 * grid.frames - 1)
                yield _layer(3, width, 2 * width, taps, coarser, coarser)
            grid = Size(grid.frames, 2 * grid.height, 2 * grid.width)
            yield _layer(9, width, width // 2, _taps(grid) // 3, grid, grid)
            width //= 2
    yield from _end(width, 3, grid)


def _middle(model: VAE, before: int, width: int, grid: Size) -> Iterator[_Layer]:
    yield from _block(model, before, width, grid)
    places, area = math.prod(grid), grid.height * grid.width
    attention = 4 * places * area * width
    products = _linear(width, 3 * width) + _linear(width, width)
    numbers = places * 4 * width
    flops = 8 * places * width**2 + attention
    yield _Layer(products + width, flops, numbers, places * width, 2 * numbers)
    yield from _block(model, width, width, grid)


def _block(model: VAE, width: int, out: int, grid: Size) -> Iterator[_Layer]:
    """Two activated convolutions, beside an identity or a linear map."""
    places, keeps = math.prod(grid), model.remat == "none"
    for index, inner in enumerate((width, out)):
        conv = _conv(inner, out, grid)
        kept = conv.read * (_KEPT_COPIES if keeps else int(index == 0))
        yield conv._replace(parameters=conv.parameters + inner, kept=kept)
    if width != out:
        yield _pointwise(width, out, grid)._replace(kept=places * out if keeps else 0)


def _end(width: int, out: int, grid: Size) -> Iterator[_Layer]:
    conv = _conv(width, out, grid)
    yield conv._replace(parameters=conv.parameters + width, kept=_KEPT_COPIES * conv.read)


def _conv(width: int, out: int, grid: Size) -> _Layer:
    return _layer(27, width, out, _taps(grid), grid, grid)


def _taps(grid: Size) -> int:
    """Returns how often the taps of (3, 3, 3) meet a place; outside of a frame there is none."""
    return 3 * grid.frames * (3 * grid.height - 2) * (3 * grid.width - 2)


def _layer(taps: int, width: int, out: int, met: int, grid: Size, seen: Size) -> _Layer:
    """A convolution of `taps`, `met` times in all, from the grid `seen` to `grid`."""
    read, made = math.prod(seen) * width, math.prod(grid) * out
    return _Layer(_linear(taps * width, out), 2 * met * width * out, read, made, read)


def _pointwise(width: int, out: int, grid: Size) -> _Layer:
    return _layer(1, width, out, math.prod(grid), grid, grid)


def _block_coder(model: BlockVAE, before: int, after: int, size: Size) -> Iterator[_Layer]:
    """The layers of `block_vae.BlockCoder`; norms count with what they precede."""
    grid, width, hidden = model.latent_size(size), model.width, model.hidden
    keeps = model.remat == "none"

    def linear(inner: int, out: int, *, norm: bool = False) -> _Layer:
        layer = _pointwise(inner, out, grid)
        kept = layer.read * (_KEPT_COPIES if norm else 2) if keeps else 0
        return layer._replace(parameters=layer.parameters + (inner if norm else 0), kept=kept)

    yield linear(before, width)
    for _ in range(model.blocks):
        yield linear(width, hidden, norm=True)
        yield _conv(hidden, hidden, grid)
        yield linear(hidden, width)
        yield linear(width, 2 * width, norm=True)
        yield linear(2 * width, width)
    yield linear(width, 2 * width, norm=True)
    yield linear(2 * width, after)


def _transform(model: BlockVAE, grid: Size) -> _Layer:
    """A matrix between blocks and latents, without bias; pixels are held in two orders."""
    products, places = 3 * math.prod(model.factor) * model.latent_channels, math.prod(grid)
    pixels, latents = 3 * places * math.prod(model.factor), places * model.latent_channels
    return _Layer(products, 2 * products * places, latents, 2 * pixels, latents)


def _linear(width: int, out: int) -> int:
    """Parameters of a linear layer."""
    return width * out + out


def _bytes(dtype: str) -> int:
    return {"float32": 4, "bfloat16": 2}[dtype]
