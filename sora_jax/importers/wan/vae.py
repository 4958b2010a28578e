"""The Wan 2.1 autoencoder's weights, in the names and layouts of diffusers' AutoencoderKLWan.

    vae, params = load("Wan2.1-T2V-1.3B-Diffusers/vae")

Each parameter of ours is one tensor of theirs with its axes in another order, so that both
directions read the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.importers.wan.files import Shards, Tensors, WeightsError, check_names, read_config
from sora_jax.models.vae import VAE


class Place(NamedTuple):
    """Where a tensor of theirs belongs in our parameters, and how its axes are turned.

    `axes` is the order of their axes in ours; of those that are left out the length is 1.
    """

    path: tuple[str, ...]
    axes: tuple[int, ...]
    rank: int


# Layouts: theirs put output channels before input channels before taps; ours the reverse.
_CONV3D = ((3, 4, 2, 1, 0), 5)
_CONV2D = ((2, 3, 1, 0), 4)
_TIME = ((2, 1, 0), 5)
_POINTWISE_3D = ((1, 0), 5)
_POINTWISE_2D = ((1, 0), 4)
_VECTOR = ((0,), 1)


def table(vae: VAE) -> dict[str, Place]:
    """Returns the place of every tensor of the published model with `vae`'s structure."""
    places = {}
    for theirs, ours, (axes, rank) in _layers(vae):
        places[f"{theirs}.weight"] = Place((*ours, "kernel"), axes, rank)
        places[f"{theirs}.bias"] = Place((*ours, "bias"), *_VECTOR)
    for theirs, ours, rank in _norms(vae):
        places[f"{theirs}.gamma"] = Place((*ours, "scale"), (0,), rank)
    return places


def _blocks(vae: VAE) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Residual blocks: their name, ours, whether the width changes."""
    last = len(vae.multipliers) - 1
    index, width = 0, vae.multipliers[0]
    for level, multiplier in enumerate(vae.multipliers):
        for i in range(vae.blocks):
            yield (
                f"encoder.down_blocks.{index}",
                ("encoder", f"block_{level}_{i}"),
                (width != multiplier),
            )
            index, width = index + 1, multiplier
        index += level < last
    for coder in ("encoder", "decoder"):
        for i in (0, 1):
            yield f"{coder}.mid_block.resnets.{i}", (coder, f"middle_{i + 1}"), False
    width = float(vae.multipliers[-1])
    for level, multiplier in enumerate(reversed(vae.multipliers)):
        for i in range(vae.blocks + 1):
            yield (
                f"decoder.up_blocks.{level}.resnets.{i}",
                ("decoder", f"block_{level}_{i}"),
                (width != multiplier),
            )
            width = multiplier
        width = multiplier / 2


def _resamplers(vae: VAE) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """Steps from a level to the next: their name, our coder and level, whether time changes."""
    for level, temporal in enumerate(vae.temporal):
        index = vae.blocks * (level + 1) + level
        yield f"encoder.down_blocks.{index}", ("encoder", str(level)), temporal
    for level, temporal in enumerate(reversed(vae.temporal)):
        yield f"decoder.up_blocks.{level}.upsamplers.0", ("decoder", str(level)), temporal


def _layers(vae: VAE) -> Iterator[tuple[str, tuple[str, ...], tuple[tuple[int, ...], int]]]:
    """Layers with a weight and a bias: their name, ours, the layout of the weight."""
    yield "quant_conv", ("to_posterior",), _POINTWISE_3D
    yield "post_quant_conv", ("from_latent",), _POINTWISE_3D
    for coder in ("encoder", "decoder"):
        yield f"{coder}.conv_in", (coder, "in"), _CONV3D
        yield f"{coder}.conv_out", (coder, "out"), _CONV3D
        attention = f"{coder}.mid_block.attentions.0"
        yield f"{attention}.to_qkv", (coder, "middle_attention", "qkv"), _POINTWISE_2D
        yield f"{attention}.proj", (coder, "middle_attention", "out"), _POINTWISE_2D
    for theirs, ours, widens in _blocks(vae):
        yield f"{theirs}.conv1", (*ours, "conv_1"), _CONV3D
        yield f"{theirs}.conv2", (*ours, "conv_2"), _CONV3D
        if widens:
            yield f"{theirs}.conv_shortcut", (*ours, "shortcut"), _POINTWISE_3D
    for theirs, (coder, level), temporal in _resamplers(vae):
        yield f"{theirs}.resample.1", (coder, f"spatial_{level}"), _CONV2D
        if temporal:
            yield f"{theirs}.time_conv", (coder, f"time_{level}"), _TIME


def _norms(vae: VAE) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Norms: their name, ours, the rank of their gain."""
    for coder in ("encoder", "decoder"):
        yield f"{coder}.norm_out", (coder, "activation"), 4
        yield f"{coder}.mid_block.attentions.0.norm", (coder, "middle_attention", "norm"), 3
    for theirs, ours, _ in _blocks(vae):
        yield f"{theirs}.norm1", (*ours, "activation_1"), 4
        yield f"{theirs}.norm2", (*ours, "activation_2"), 4


def from_config(config: Mapping[str, Any]) -> VAE:
    """Returns the autoencoder that a diffusers `config.json` describes.

    Raises WeightsError for a setting that has no equal here (Wan 2.2's, for one).
    """
    fixed = {
        "attn_scales": [],
        "is_residual": False,
        "patch_size": None,
        "in_channels": 3,
        "out_channels": 3,
        "decoder_base_dim": config.get("base_dim", 96),
    }
    for name, only in fixed.items():
        value = config.get(name, only)
        if value != only and value is not None:
            raise WeightsError(f"{name} = {value!r} of an AutoencoderKLWan: only {only!r} is known")
    return VAE(
        base=config.get("base_dim", 96),
        multipliers=tuple(config.get("dim_mult", (1, 2, 4, 4))),
        blocks=config.get("num_res_blocks", 2),
        latent_channels=config.get("z_dim", 16),
        temporal=tuple(config.get("temperal_downsample", (False, True, True))),
    )


def from_diffusers(
    vae: VAE, tensors: Tensors, *, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Any]:
    """Returns `vae`'s parameters (float32 NumPy arrays) from the tensors of an AutoencoderKLWan.

    `mean` and `std` are its config's `latents_mean` and `latents_std`. Raises WeightsError that
    names missing and unknown tensors, or the one whose shape is another.
    """
    places = table(vae)
    check_names("autoencoder", places, tensors)
    params: dict[str, Any] = {
        "latent_mean": np.asarray(mean, np.float32),
        "latent_std": np.asarray(std, np.float32),
    }
    for name, place in places.items():
        node = params
        for part in place.path[:-1]:
            node = node.setdefault(part, {})
        node[place.path[-1]] = _turned(name, np.asarray(tensors[name]), place)
    _same_shapes(vae, params, {place.path: name for name, place in places.items()})
    return params


def to_diffusers(vae: VAE, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors of an AutoencoderKLWan from `vae`'s parameters, less mean and std."""
    params = nn.meta.unbox(params)
    tensors = {}
    for name, place in table(vae).items():
        array: Any = params
        for part in place.path:
            array = array[part]
        # Axes that they have and we have not come back with length 1, behind the others.
        missing = tuple(axis for axis in range(place.rank) if axis not in place.axes)
        array = np.asarray(array, np.float32)
        array = array.reshape(array.shape + (1,) * len(missing))
        turned = np.transpose(array, np.argsort((*place.axes, *missing)))
        # In their order in memory too: safetensors writes memory as it lies.
        tensors[name] = np.ascontiguousarray(turned)
    return tensors


def load(path: str | Path) -> tuple[VAE, dict[str, Any]]:
    """Returns the autoencoder and its parameters from a folder of diffusers.

    The folder holds `config.json` and one `.safetensors` file, or several with their index. Raises
    WeightsError if one is missing, or the tensors do not fit.
    """
    folder = Path(path)
    config = read_config(folder)
    vae = from_config(config)
    size = vae.latent_channels
    return vae, from_diffusers(
        vae,
        Shards(folder),
        mean=config.get("latents_mean", [0.0] * size),
        std=config.get("latents_std", [1.0] * size),
    )


def _turned(name: str, tensor: np.ndarray, place: Place) -> np.ndarray:
    dropped = tuple(axis for axis in range(place.rank) if axis not in place.axes)
    if tensor.ndim != place.rank or any(tensor.shape[axis] != 1 for axis in dropped):
        raise WeightsError(
            f"{name} has shape {tensor.shape}; expected {place.rank} axes, those of {dropped} of"
            " length 1"
        )
    turned = np.transpose(tensor, (*place.axes, *dropped))
    kept = turned.shape[: len(place.axes)]
    return np.ascontiguousarray(turned.reshape(kept).astype(np.float32))


def _same_shapes(vae: VAE, params: Any, names: Mapping[tuple[str, ...], str]) -> None:
    clip = jax.ShapeDtypeStruct((1, 1 + vae.factor.frames, *vae.factor[1:], 3), jnp.float32)
    wanted = nn.meta.unbox(jax.eval_shape(vae.init, jax.random.key(0), clip)["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        keys = tuple(entry.key for entry in path)
        given: Any = params
        for key in keys:
            given = given[key]
        if given.shape != leaf.shape:
            raise WeightsError(
                f"{names.get(keys, keys[-1])} becomes {'/'.join(keys)} of shape {given.shape};"
                f" this autoencoder's is {leaf.shape}"
            )
