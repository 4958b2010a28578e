"""Worlds as a set of tensorflow-datasets: drawn once and kept without loss, for those who share."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from sora_jax.data.worlds.source import Worlds


class SoraWorlds(tfds.core.GeneratorBasedBuilder):
    """The clips of a source of worlds, frames as PNG, with both captions and their record's name.

        SoraWorlds(source=Worlds(clips=1000), data_dir=DIR).download_and_prepare()

    prepares array_record without TensorFlow. Each source is a configuration of its own, whose name
    is a hash of all that it is, so that several may lie in one folder:
    `TFDS(name=f"sora_worlds/{configuration(source)}", data_dir=DIR, fps=8.0)` reads it. Lists of
    pictures have no rate of their own: it is in the set's metadata, with the rest of the source.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Every world of sora_jax."}

    def __init__(self, *, source: Worlds = Worlds(), **settings: Any) -> None:  # noqa: B008
        self._source = source
        config = tfds.core.BuilderConfig(name=configuration(source), version=self.VERSION)
        super().__init__(file_format="array_record", config=config, **settings)

    def _info(self) -> tfds.core.DatasetInfo:
        source = self._source
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "video": tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3))),
                    "short": tfds.features.Text(),
                    "descriptive": tfds.features.Text(),
                    "name": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(_told(source)),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        opened = self._source.open()
        for index, record in enumerate(opened.records):
            frames = opened.read(index, 0, record.frames)
            captions = {caption.kind: caption.text for caption in record.captions}
            yield index, {"video": [_png(f) for f in frames], "name": record.name, **captions}


def configuration(source: Worlds) -> str:
    """The name of the set that holds a source: a hash of its clips, worlds, sizes and the rest."""
    told = json.dumps(_told(source), sort_keys=True)
    return f"clips_{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def _told(source: Worlds) -> dict[str, Any]:
    """All that makes the clips of a source, as JSON has it; of each world its settings."""
    fields = {each.name: getattr(source, each.name) for each in dataclasses.fields(source)}
    return fields | {
        "worlds": [repr(world) for world in source.worlds],
        "shares": None if source.shares is None else [*source.shares],
        "sizes": [[*size] for size in source.sizes],
    }


def _png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()
