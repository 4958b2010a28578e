"""Parity with diffusers' AutoencoderKLWan, the outside judge of our autoencoder."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from sora_jax.arrays import Size
from sora_jax.importers import wan
from sora_jax.models.vae import VAE

CONFIG = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 2, 2, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.1, 0.2, 0.3, 0.4],
    "latents_std": [1.0, 2.0, 3.0, 4.0],
}
SMALL = wan.vae.from_config(CONFIG)
STATISTICS: Any = {"mean": CONFIG["latents_mean"], "std": CONFIG["latents_std"]}


@functools.cache
def tensors() -> dict[str, np.ndarray]:
    """Random weights in the published names and layouts."""
    shapes = nn.meta.unbox(
        jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, 1, 8, 8, 3)))
    )
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes["params"])
    return wan.vae.to_diffusers(SMALL, params)


@functools.partial(jax.jit, static_argnums=0)
def run(method: str, params: Any, *inputs: Any) -> Any:
    return SMALL.apply({"params": params}, *inputs, method=method)


@pytest.fixture(scope="module")
def published() -> tuple[Any, Any]:
    """A small model of diffusers with random weights, and our parameters read from it."""
    torch = pytest.importorskip("torch", reason="needs the CPU build of torch")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLWan(**CONFIG).eval().requires_grad_(False)
    for tensor in model.parameters():  # gains start at 1, where a swapped pair would not be seen
        tensor.add_(0.1 * torch.randn_like(tensor))
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return model, wan.vae.from_diffusers(SMALL, state, **STATISTICS)


def theirs(x: Any) -> Any:
    """Ours puts channels last, theirs second."""
    import torch

    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


def assert_near(ours: Any, other: Any) -> None:
    other = np.moveaxis(other.numpy(), 1, -1)
    np.testing.assert_allclose(ours, other, rtol=0, atol=1e-4 * np.abs(other).max())


@pytest.mark.parity
@pytest.mark.parametrize("size", [(1, 24, 8), (5, 20, 12), (17, 8, 24)])
def test_outputs_are_those_of_diffusers(
    published: tuple[Any, Any], size: tuple[int, int, int]
) -> None:
    model, params = published
    video = np.random.default_rng(1).uniform(-1, 1, (1, *size, 3)).astype(np.float32)
    # Their strided convolutions drop the rows and columns that fill no latent place; ours first
    # repeats the edge, and cuts it off after decoding.
    whole = SMALL.pixel_size(SMALL.latent_size(Size(*size)))
    grown = [(0, 0), *((0, n - m) for n, m in zip(whole, size, strict=True)), (0, 0)]
    expected = model.encode(theirs(np.pad(video, grown, mode="edge"))).latent_dist
    posterior = run("encode", params, video)
    assert_near(posterior.mean, expected.mean)
    assert_near(posterior.log_variance, expected.logvar)
    decoded = model.decode(expected.mean).sample
    ours = run("decode", params, jnp.moveaxis(jnp.asarray(expected.mean.numpy()), 1, -1))
    assert_near(jnp.clip(ours, -1, 1), decoded)
    assert jnp.abs(ours).max() < 4  # so that clipping does not hide much


@pytest.mark.parity
def test_our_names_are_theirs_at_every_size() -> None:
    torch = pytest.importorskip("torch", reason="needs the CPU build of torch")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    with torch.device("meta"):
        model = diffusers.AutoencoderKLWan()
    names = {name: len(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {name: place.rank for name, place in wan.vae.table(VAE()).items()} == names
    assert wan.vae.from_config(model.config) == VAE()


def test_there_and_back_is_the_same() -> None:
    params = wan.vae.from_diffusers(SMALL, tensors(), **STATISTICS)
    back = wan.vae.to_diffusers(SMALL, params)
    assert back.keys() == tensors().keys()
    assert all(np.array_equal(back[name], tensor) for name, tensor in tensors().items())
    assert params["latent_std"].tolist() == [1, 2, 3, 4]


def test_a_folder_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    halves = sorted(tensors())[::2], sorted(tensors())[1::2]
    for n, names in enumerate(halves):
        save_file({name: tensors()[name] for name in names}, tmp_path / f"part-{n}.safetensors")
    vae, params = wan.vae.load(tmp_path)
    assert vae == SMALL
    expected = wan.vae.from_diffusers(SMALL, tensors(), **STATISTICS)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, expected))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(wan.WeightsError, match=r"has no config\.json"):
        wan.vae.load(tmp_path)


def test_missing_and_unknown_tensors_are_named() -> None:
    wrong = {f"{name}_ema" if "post_quant" in name else name: x for name, x in tensors().items()}
    with pytest.raises(
        wan.WeightsError, match=r"missing \['post_quant_conv.bias.*_conv.weight_ema'"
    ):
        wan.vae.from_diffusers(SMALL, wrong, **STATISTICS)


def test_a_tensor_of_another_shape_is_named() -> None:
    name = "encoder.down_blocks.0.conv1.weight"
    for shape, message in (
        ((4, 4, 3, 3), "expected 5 axes"),
        ((4, 5, 3, 3, 3), "block_0_0/conv_1"),
    ):
        with pytest.raises(wan.WeightsError, match=f"{name} .*{message}"):
            wrong = {**tensors(), name: np.zeros(shape, np.float32)}
            wan.vae.from_diffusers(SMALL, wrong, **STATISTICS)


def test_settings_without_an_equal_are_named() -> None:
    for setting in ({"is_residual": True}, {"patch_size": 2}, {"attn_scales": [0.5]}):
        with pytest.raises(wan.WeightsError, match=f"{next(iter(setting))} = .* only"):
            wan.vae.from_config({**CONFIG, **setting})
