"""The cost of the diffusion transformer and of the text encoders."""

from __future__ import annotations

import math

from sora_jax.arrays import Size
from sora_jax.models.accounting.cost import WIDE, Cost, bytes_of, linear
from sora_jax.models.dit import DiT
from sora_jax.models.embeddings import SINUSOIDS, feature_count
from sora_jax.models.flash import STORED
from sora_jax.models.patches import token_grid
from sora_jax.models.text import CONVOLUTIONS, KERNEL, PAD, ByteEncoder, LabelEncoder, WordEncoder


def transformer(model: DiT, size: Size, *, text: int, batch: int = 1, times: int = 1) -> Cost:
    """Returns the cost for `size` latents and `text` text positions a row.

    `times` is the number of diffusion times a row: 1, or one for each frame or token.
    """
    width, depth, hidden = model.width, model.depth, model.mlp
    values = math.prod(model.patch) * model.latent_channels
    tokens, texts = batch * math.prod(token_grid(size, model.patch)), batch * text
    per_row = tokens // batch if batch else 0
    products = tokens * (6 * width**2 + 2 * width * hidden) + 2 * texts * width**2
    attention = 4 * tokens * width * (per_row + text)
    layer = 2 * products + attention
    again = {"none": 0, "save_attention": layer - attention}.get(model.remat, layer)
    flops = depth * layer + 2 * (
        2 * tokens * values * width
        + batch * times * (SINUSOIDS * width + 7 * width**2)
        + texts * (model.text_width * width + width**2)
        + batch * model.pooled * model.text_width * width
        + bool(model.places) * tokens * feature_count(model.places) * width
    )
    number = bytes_of(model.dtype)
    modulation = 6 * WIDE * batch * times * width
    prompt = 2 * depth * number * texts * width
    # Of each layer: its input and what `remat.KEPT` names; and once, all of the layer at hand.
    kept = {"none": 10 * width + hidden, "save_attention": 3 * width, "full": width, "offload": 0}[
        model.remat
    ]
    weights = (
        0 if model.remat in ("full", "offload") else _stored_weights(model, batch, per_row, text)
    )
    at_hand = number * tokens * (_LAYER_WIDTHS * width + 2 * hidden)
    working = number * tokens * max(_ATTENTION_WIDTHS * width, 3 * width + 2 * hidden)
    return Cost(
        parameters=transformer_parameters(model),
        tokens=tokens,
        flops=flops,
        kept_bytes=depth * number * (tokens * kept + weights) + at_hand + prompt + modulation,
        working_bytes=working + prompt + modulation,
        recomputed=depth * again,
    )


def _stored_weights(model: DiT, batch: int, tokens: int, text: int) -> int:
    """Returns how many weights a layer's attentions keep: all, or none where they are many."""
    counts = (batch * model.heads * tokens * keys for keys in (tokens, text))
    return sum(count for count in counts if WIDE * count <= STORED)


# How many arrays as wide as a token a layer of `dit.Block` keeps for its backward pass, and has at
# once around attention. Counted in what XLA makes of them.
_LAYER_WIDTHS = 20
_ATTENTION_WIDTHS = 9


def transformer_parameters(model: DiT) -> int:
    """Returns the number of parameters, the embedding of `known` included."""
    width, hidden = model.width, model.mlp
    values = math.prod(model.patch) * model.latent_channels
    attention = 4 * linear(width, width) + 2 * width
    layer = 2 * attention + linear(width, hidden) + linear(hidden, width) + 2 * width + 6 * width
    time = linear(SINUSOIDS, width) + linear(width, width) + linear(width, 6 * width)
    text = linear(model.text_width, width) + linear(width, width)
    ends = linear(values, width) + linear(width, values) + 2 * width
    pooled = linear(model.text_width, width) if model.pooled else 0
    places = linear(feature_count(model.places), width) if model.places else 0
    return model.depth * layer + time + text + ends + width + pooled + places


def text_encoder(
    model: ByteEncoder | WordEncoder | LabelEncoder, *, text: int, batch: int = 1
) -> Cost:
    """Returns the cost for `text` tokens a row."""
    read, positions, width = batch * text, batch * model.positions(text), model.width
    if isinstance(model, LabelEncoder):
        row = WIDE * positions * width
        parameters = (model.classes + 1) * width
        return Cost(
            parameters=parameters, tokens=positions, flops=0, kept_bytes=row, working_bytes=row
        )
    table, front, flops = (PAD + 1) * width, 0, 0
    if isinstance(model, WordEncoder):
        letter = model.letter_width
        table = (PAD + 1) * letter
        front = linear(KERNEL * letter, letter) * CONVOLUTIONS + linear(letter, width)
        gathered = read * model.positions(text) * letter
        flops = 2 * (
            read * CONVOLUTIONS * KERNEL * letter**2 + gathered + positions * letter * width
        )
    layer = 4 * linear(width, width) + linear(width, 4 * width) + linear(4 * width, width)
    number = bytes_of(model.dtype) * positions * width
    across = 4 * positions * model.positions(text) * width
    return Cost(
        parameters=model.depth * (layer + 4 * width) + table + width + front,
        tokens=positions,
        flops=flops + model.depth * (24 * positions * width**2 + across),
        kept_bytes=model.depth * number * (_LAYER_WIDTHS + 8),
        working_bytes=number * (3 + 8),
    )
