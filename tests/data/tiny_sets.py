"""Tiny sets of tensorflow-datasets, one for each kind of clip. (Builders must live in a module.)"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from sora_jax.data.tfds import EncodedVideo
from tests.data.media import numbered, write_movie


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Four grey images with a label, and a file name that is no caption."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: dict[str, Any] = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["dark", "light"]),
        "file": tfds.features.Text(),
    }

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: object) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, pixels in enumerate(numbered(4, 24, 32)):
            yield index, {"image": _png(pixels), "label": index // 2, "file": f"{index}.png"}


class TinyLists(TinyImages):
    """Clips as lists of images, the second one damaged, with a text."""

    FEATURES = {  # noqa: RUF012
        "frames": tfds.features.Sequence(tfds.features.Image(shape=(24, 32, 3))),
        "caption": tfds.features.Text(),
    }

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(3):
            images = [_png(pixels) for pixels in numbered(6 + index, 24, 32)]
            if index == 1:
                images[0] = images[0][:40]
            yield index, {"frames": images, "caption": f"clip  {index}\n"}


class TinyVideos(TinyImages):
    """Clips as the bytes of MP4 files with captions of both kinds."""

    FEATURES = {  # noqa: RUF012
        "video": EncodedVideo(),
        "short": tfds.features.Text(),
        "descriptive": tfds.features.Text(),
    }

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with tempfile.TemporaryDirectory() as folder:
            for index in range(2):
                path = write_movie(Path(folder) / "clip.mp4", numbered(8 + index))
                clip = path.read_bytes() if index else path
                yield index, {"video": clip, "short": f"short {index}", "descriptive": "long"}
