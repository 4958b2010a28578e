"""The Wan transformer's weights, in the names and layouts of diffusers' WanTransformer3DModel.

    dit, params = load("Wan2.1-T2V-1.3B-Diffusers/transformer")

Three things differ: our layers are stacked along a first axis; our kernels are [in, out]; and
rotary positions turn the halves of a head with us and neighbours with them, so that the outputs of
queries and keys come in another order (see `models.embeddings`). Our flag `known`, which they do
not have, stays zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.importers.wan.files import Shards, Tensors, WeightsError, check_names, read_config
from sora_jax.models.dit import DiT

_LINEAR = {
    "condition_embedder.time_embedder.linear_1": ("time", "up"),
    "condition_embedder.time_embedder.linear_2": ("time", "down"),
    "condition_embedder.time_proj": ("time_projection",),
    "condition_embedder.text_embedder.linear_1": ("text_in",),
    "condition_embedder.text_embedder.linear_2": ("text_out",),
    "proj_out": ("head",),
}
_LAYER_LINEAR = {
    "ffn.net.0.proj": ("mlp_in",),
    "ffn.net.2": ("mlp_out",),
    **{
        f"{theirs}.{their_part}": (ours, part)
        for theirs, ours in (("attn1", "self_attention"), ("attn2", "cross_attention"))
        for their_part, part in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "out"),
        )
    },
}
_LAYER_VECTOR = {
    "norm2.weight": ("cross_scale",),
    "norm2.bias": ("cross_bias",),
    "attn1.norm_q.weight": ("self_attention", "query_scale"),
    "attn1.norm_k.weight": ("self_attention", "key_scale"),
    "attn2.norm_q.weight": ("cross_attention", "query_scale"),
    "attn2.norm_k.weight": ("cross_attention", "key_scale"),
}
_TURNED = ("attn1.to_q.", "attn1.to_k.", "attn1.norm_q.", "attn1.norm_k.")


class Place(NamedTuple):
    """Where a tensor of theirs belongs in our parameters: path, layer (if any) and layout."""

    path: tuple[str, ...]
    layer: int | None
    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def table(dit: DiT) -> dict[str, Place]:
    """Returns the place of every tensor of the published model with `dit`'s structure."""
    matrix = (np.transpose, np.transpose)
    vector = (np.asarray, np.asarray)
    rows = (lambda x: x[0], lambda x: x[None])
    places = {
        "patch_embedding.weight": Place(("patches", "kernel"), None, *_patch_layout(dit)),
        "patch_embedding.bias": Place(("patches", "bias"), None, *vector),
        "scale_shift_table": Place(("table",), None, *rows),
    }
    for theirs, ours in _LINEAR.items():
        places[f"{theirs}.weight"] = Place((*ours, "kernel"), None, *matrix)
        places[f"{theirs}.bias"] = Place((*ours, "bias"), None, *vector)
    for layer in range(dit.depth):
        for name, path, layout in _of_a_layer(matrix, vector, rows):
            layout = _turned_layout(dit, *layout) if name.startswith(_TURNED) else layout
            places[f"blocks.{layer}.{name}"] = Place(("layers", *path), layer, *layout)
    return places


def _of_a_layer(matrix: Any, vector: Any, rows: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    yield "scale_shift_table", ("table",), rows
    for name, path in _LAYER_VECTOR.items():
        yield name, path, vector
    for name, path in _LAYER_LINEAR.items():
        yield f"{name}.weight", (*path, "kernel"), matrix
        yield f"{name}.bias", (*path, "bias"), vector


def _patch_layout(dit: DiT) -> tuple[Callable, Callable]:
    """A convolution [out, channels, *patch] and a kernel [patch * channels, out]."""
    shape = (*dit.patch, dit.latent_channels, dit.width)
    return (
        lambda x: x.transpose(2, 3, 4, 1, 0).reshape(-1, dit.width),
        lambda x: x.reshape(shape).transpose(4, 3, 0, 1, 2),
    )


def _turned_layout(dit: DiT, ours: Callable, theirs: Callable) -> tuple[Callable, Callable]:
    """As the layouts given, and the numbers of each head from neighbours to halves, and back."""
    places = np.arange(dit.width).reshape(dit.heads, -1, 2)
    halves = places.transpose(0, 2, 1).reshape(-1)
    return lambda x: ours(x)[..., halves], lambda x: theirs(x[..., np.argsort(halves)])


def from_config(config: Mapping[str, Any]) -> DiT:
    """Returns the transformer that a diffusers `config.json` describes.

    Raises WeightsError for a setting that has no equal here (those of image-to-video, for one).
    """
    channels = config.get("in_channels", 16)
    fixed = {
        "out_channels": channels,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "freq_dim": 256,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "pos_embed_seq_len": None,
    }
    for name, only in fixed.items():
        if config.get(name, only) != only:
            raise WeightsError(
                f"{name} = {config[name]!r} of a WanTransformer3DModel: only {only!r} is known"
            )
    heads = config.get("num_attention_heads", 40)
    return DiT(
        width=heads * config.get("attention_head_dim", 128),
        depth=config.get("num_layers", 40),
        heads=heads,
        mlp=config.get("ffn_dim", 13824),
        latent_channels=channels,
        text_width=config.get("text_dim", 4096),
        patch=tuple(config.get("patch_size", (1, 2, 2))),
    )


def from_diffusers(dit: DiT, tensors: Tensors) -> dict[str, Any]:
    """Returns `dit`'s parameters (float32 NumPy arrays) from the tensors of theirs.

    Each tensor is read once and written into the stack of its layers. Raises WeightsError that
    names missing and unknown tensors, or the one whose shape is another.
    """
    places = table(dit)
    check_names("transformer", places, tensors)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes(dit))
    for name, place in places.items():
        into = _at(params, place)
        tensor, wanted = np.asarray(tensors[name]), place.theirs(into).shape
        if tensor.shape != wanted:
            raise WeightsError(f"{name} has shape {tensor.shape}; this transformer's is {wanted}")
        into[...] = place.ours(tensor.astype(np.float32))
    return params


def to_diffusers(dit: DiT, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors of a WanTransformer3DModel from `dit`'s parameters, less `known`."""
    arrays = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), nn.meta.unbox(params))
    return {
        name: np.ascontiguousarray(place.theirs(_at(arrays, place)))
        for name, place in table(dit).items()
    }


def load(path: str | Path) -> tuple[DiT, dict[str, Any]]:
    """Returns the transformer and its parameters from a folder of diffusers.

    The folder holds `config.json` and one `.safetensors` file, or several with their index. Raises
    WeightsError if one is missing, or the tensors do not fit.
    """
    folder = Path(path)
    dit = from_config(read_config(folder))
    return dit, from_diffusers(dit, Shards(folder))


def _at(params: Mapping[str, Any], place: Place) -> np.ndarray:
    """Returns the view of the parameters that a tensor of theirs fills."""
    node: Any = params
    for part in place.path:
        node = node[part]
    return node if place.layer is None else node[place.layer]


def shapes(dit: DiT) -> dict[str, Any]:
    """Returns shape and type of each of `dit`'s parameters."""
    latent = jax.ShapeDtypeStruct((1, 1, 1, 1, dit.latent_channels), jnp.float32)
    sigma = jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32)
    text = jax.ShapeDtypeStruct((1, 1, dit.text_width), jnp.float32)
    length = jax.ShapeDtypeStruct((1,), jnp.int32)
    variables = jax.eval_shape(dit.init, jax.random.key(0), latent, sigma, text, length)
    return nn.meta.unbox(variables)["params"]
