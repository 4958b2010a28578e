"""Folders of weights as diffusers writes them: config.json and safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

Tensors = Mapping[str, np.ndarray]


class WeightsError(ValueError):
    """Published weights or their settings do not fit; the message names which."""


def read_config(folder: Path) -> dict[str, Any]:
    """Returns what `config.json` says. Raises WeightsError if there is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder} has no config.json; give the folder of one model")
    return json.loads(path.read_text())


def check_names(model: str, known: Iterable[str], tensors: Tensors) -> None:
    """Raises WeightsError that says which tensors are missing, and which are unknown."""
    missing, unknown = sorted(set(known) - set(tensors)), sorted(set(tensors) - set(known))
    if missing or unknown:
        raise WeightsError(
            f"the tensors are not those of this {model}: missing {missing or 'none'}, unknown"
            f" {unknown or 'none'}; check its config"
        )


class Shards(Mapping[str, np.ndarray]):
    """The tensors of a folder's safetensors files, each read when it is asked for.

    Raises WeightsError if there is no file, or one that the index names is missing.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.safetensors"))
        for index in folder.glob("*.safetensors.index.json"):
            names = set(json.loads(index.read_text())["weight_map"].values())
            files = [folder / name for name in sorted(names)]
        lost = [file.name for file in files if not file.is_file()]
        if lost or not files:
            raise WeightsError(f"{folder} lacks {', '.join(lost) or 'a .safetensors file'}")
        opened = (safe_open(file, "np") for file in files)
        self._files = {name: file for file in opened for name in file.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> np.ndarray:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
