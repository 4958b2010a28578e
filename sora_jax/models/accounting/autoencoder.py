"""The cost of the autoencoders and of the discriminator, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from sora_jax.arrays import Size
from sora_jax.models.accounting.cost import Cost, bytes_of, linear
from sora_jax.models.autoencoder import Autoencoder
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.conv import platform_form
from sora_jax.models.discriminator import PatchDiscriminator
from sora_jax.models.vae import VAE

# How many arrays a norm, SiLU and convolution of `coders.ResidualBlock` keep for each that they are
# given. Counted in what XLA makes of them.
_KEPT_COPIES = 6


def autoencoder(model: Autoencoder, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of encoding and decoding clips of `size` pixels."""
    both = encoding(model, size, batch=batch), decoding(model, size, batch=batch)
    return Cost(
        parameters=sum(cost.parameters for cost in both) + 2 * model.latent_channels,
        tokens=both[0].tokens,
        flops=sum(cost.flops for cost in both),
        kept_bytes=sum(cost.kept_bytes for cost in both),
        working_bytes=max(cost.working_bytes for cost in both),
        recomputed=sum(cost.recomputed for cost in both),
    )


def encoding(model: Autoencoder, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of encoding clips of `size` pixels, of the encoder alone."""
    tokens = math.prod(model.latent_size(size))
    return _of_layers(model, _layers(model, size)[0], tokens, batch)


def decoding(model: Autoencoder, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of decoding to clips of `size` pixels, of the decoder alone."""
    tokens = math.prod(model.latent_size(size))
    return _of_layers(model, _layers(model, size)[1], tokens, batch)


def discriminator(model: PatchDiscriminator, size: Size, *, batch: int = 1) -> Cost:
    """Returns the cost of judging clips of `size` pixels once; its tokens are the patches."""
    layers, channels, grid = [], 3, size
    for level in range(model.levels):
        width = model.width * 2**level
        finer = grid
        grid = Size(grid.frames, -(-grid.height // 2), -(-grid.width // 2))
        # The last place of a side sees one pixel beyond the border, or two of an odd one.
        met = grid.frames * math.prod(
            3 * side - 1 - before % 2 for side, before in zip(grid[1:], finer[1:], strict=True)
        )
        layers.append(_layer(9, channels, width, met, grid, finer))
        conv, norm = _conv(width, width, grid), width if level else 0
        layers.append(
            conv._replace(parameters=conv.parameters + norm, kept=_KEPT_COPIES * conv.read)
        )
        channels = width
    layers.append(_pointwise(channels, 1, grid))
    return _of_layers(model, layers, math.prod(grid), batch)


class _Layer(NamedTuple):
    """A layer of an autoencoder, for one clip: numbers it reads, makes and keeps, and whether the
    backward pass does it again."""

    parameters: int
    flops: int
    read: int = 0
    made: int = 0
    kept: int = 0
    again: bool = False


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


def _of_layers(
    model: Autoencoder | PatchDiscriminator, layers: list[_Layer], tokens: int, batch: int
) -> Cost:
    number = batch * bytes_of(model.dtype)
    # Stacked convolutions copy their input three times over, and a block has its input besides.
    copies = 4 if (model.form or platform_form()) == "stacked" else 3
    return Cost(
        parameters=sum(layer.parameters for layer in layers),
        tokens=batch * tokens,
        flops=batch * sum(layer.flops for layer in layers),
        kept_bytes=number * sum(layer.kept for layer in layers),
        working_bytes=number * max(copies * layer.read + layer.made for layer in layers),
        recomputed=batch * sum(layer.flops for layer in layers if layer.again),
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
    products = linear(width, 3 * width) + linear(width, width)
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
        # What the second makes, a sum, no gradient needs.
        again = not keeps and index == 0
        yield conv._replace(parameters=conv.parameters + inner, kept=kept, again=again)
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
    return _Layer(linear(taps * width, out), 2 * met * width * out, read, made, read)


def _pointwise(width: int, out: int, grid: Size) -> _Layer:
    return _layer(1, width, out, math.prod(grid), grid, grid)


def _block_coder(model: BlockVAE, before: int, after: int, size: Size) -> Iterator[_Layer]:
    """The layers of `block_vae.BlockCoder`; norms count with what they precede."""
    grid, width, hidden = model.latent_size(size), model.width, model.hidden
    keeps = model.remat == "none"

    def product(inner: int, out: int, *, norm: bool = False) -> _Layer:
        layer = _pointwise(inner, out, grid)
        kept = layer.read * (_KEPT_COPIES if norm else 2) if keeps else 0
        return layer._replace(parameters=layer.parameters + (inner if norm else 0), kept=kept)

    yield product(before, width)
    for _ in range(model.blocks):
        for layer in (
            product(width, hidden, norm=True),
            _conv(hidden, hidden, grid),
            product(hidden, width),
            product(width, 2 * width, norm=True),
        ):
            yield layer._replace(again=not keeps)
        yield product(2 * width, width)
    yield product(width, 2 * width, norm=True)
    yield product(2 * width, after)


def _transform(model: BlockVAE, grid: Size) -> _Layer:
    """A matrix between blocks and latents, without bias; pixels are held in two orders."""
    products, places = 3 * math.prod(model.factor) * model.latent_channels, math.prod(grid)
    pixels, latents = 3 * places * math.prod(model.factor), places * model.latent_channels
    return _Layer(products, 2 * products * places, latents, 2 * pixels, latents)
