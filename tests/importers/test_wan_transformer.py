"""The published transformer, in torch, gives what ours gives with its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from sora_jax.importers import wan
from sora_jax.models.dit import DiT

CONFIG = {
    "num_layers": 3,
    "num_attention_heads": 3,
    "attention_head_dim": 32,
    "ffn_dim": 100,
    "text_dim": 24,
    "in_channels": 5,
    "out_channels": 5,
}
SMALL = wan.transformer.from_config(CONFIG)


def random_weights() -> dict[str, np.ndarray]:
    """Tensors of theirs, all random: tables, norms and biases too."""
    random = np.random.default_rng(0)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), wan.transformer.shapes(SMALL))
    weights = {}
    for name, tensor in wan.transformer.to_diffusers(SMALL, zeros).items():
        scale = 1.5 / np.sqrt(np.prod(tensor.shape[1:])) if tensor.ndim > 1 else 0.1
        value = scale * random.standard_normal(tensor.shape)
        weights[name] = (value + ("norm" in name and "weight" in name)).astype(np.float32)
    return weights


def published(weights: dict[str, np.ndarray], config: dict[str, Any]) -> Any:
    torch = pytest.importorskip("torch", reason="needs the CPU build of torch")
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    model = diffusers.WanTransformer3DModel(**config).eval()
    tensors = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    model.load_state_dict(tensors, strict=True)

    @torch.inference_mode()
    def run(latent: np.ndarray, time: np.ndarray, text: np.ndarray) -> np.ndarray:
        seen = torch.from_numpy(np.ascontiguousarray(np.moveaxis(latent, -1, 1)))
        time, text = torch.from_numpy(1000.0 * time), torch.from_numpy(text)
        return np.moveaxis(model(seen, time, text, return_dict=False)[0].numpy(), 1, -1)

    return run


@pytest.mark.parity
@pytest.mark.parametrize(
    ("size", "text", "by_frame"), [((3, 6, 10), 7, False), ((3, 2, 14), 1, True)]
)
def test_output_is_that_of_diffusers(size: tuple[int, int, int], text: int, by_frame: bool) -> None:
    weights = random_weights()
    theirs = published(weights, CONFIG)
    random = np.random.default_rng(1)
    latent = random.standard_normal((2, *size, 5)).astype(np.float32)
    features = random.standard_normal((2, text, 24)).astype(np.float32)
    time = random.random((2, size[0] if by_frame else 1, 1, 1)).astype(np.float32)
    grid = (2, size[0], size[1] // 2, size[2] // 2)
    tokens = np.broadcast_to(time, grid).reshape(2, -1) if by_frame else time.reshape(2)

    params = wan.transformer.from_diffusers(SMALL, weights)
    ours = jax.jit(SMALL.apply)({"params": params}, latent, time, features, np.full(2, text))
    exact = theirs(latent, tokens, features)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


def test_weights_come_back_unchanged() -> None:
    weights = random_weights()
    back = wan.transformer.to_diffusers(SMALL, wan.transformer.from_diffusers(SMALL, weights))
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_every_parameter_is_filled_but_known() -> None:
    params = wan.transformer.from_diffusers(SMALL, random_weights())
    assert (params.pop("known") == 0).all()
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(params))


def test_missing_and_unknown_tensors_are_named() -> None:
    weights = random_weights()
    weights["blocks.0.attn2.add_k_proj.weight"] = weights.pop("proj_out.bias")
    with pytest.raises(wan.WeightsError, match=r"missing \['proj_out.bias'\].*add_k_proj"):
        wan.transformer.from_diffusers(SMALL, weights)


def test_tensor_of_another_shape_is_named() -> None:
    weights = random_weights()
    weights["blocks.1.ffn.net.2.bias"] = np.zeros(7, np.float32)
    with pytest.raises(
        wan.WeightsError, match=r"blocks.1.ffn.net.2.bias has shape \(7,\).*\(96,\)"
    ):
        wan.transformer.from_diffusers(SMALL, weights)


@pytest.mark.parametrize("setting", [{"image_dim": 1280}, {"out_channels": 16, "in_channels": 36}])
def test_setting_without_an_equal_is_named(setting: dict[str, int]) -> None:
    with pytest.raises(wan.WeightsError, match=next(iter(setting))):
        wan.transformer.from_config(CONFIG | setting)


def test_config_of_the_published_model_is_the_preset() -> None:
    config = {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    assert wan.transformer.from_config(config) == DiT(width=1536, depth=30, heads=12, mlp=8960)


def test_folder_of_shards_is_read_by_its_index(tmp_path: Path) -> None:
    weights = random_weights()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    dit, params = wan.transformer.load(tmp_path)
    assert dit == SMALL
    for name, tensor in wan.transformer.to_diffusers(dit, params).items():
        np.testing.assert_array_equal(tensor, weights[name])
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(wan.WeightsError, match=r"lacks b\.safetensors"):
        wan.transformer.load(tmp_path)
