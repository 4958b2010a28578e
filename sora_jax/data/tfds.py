"""tensorflow-datasets sets stored as array_record as a source of clips, without TensorFlow.

Clips may be a feature `Image`, a `Sequence(Image)` or our own `EncodedVideo`; captions a `Text` or
a `ClassLabel`. What else there is (other file formats, `tfds.features.Video`) needs TensorFlow, and
is answered with an error that says what to install and to convert.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import UInt8
from tensorflow_datasets.core.features.feature import FeatureConnector

from sora_jax.data import video
from sora_jax.data.datasets import Broken, Caption, Record

_THREADS = 16

# Features of texts that are captions; others are file names, addresses, licences.
_CAPTION_KEYS = ("caption", "short", "descriptive", "text", "description", "title")


class EncodedVideo(FeatureConnector):
    """A feature of tensorflow-datasets: the bytes of a video file, kept as they are.

    Examples are given as bytes or as a path, and come back as bytes. Unlike `tfds.features.Video`
    it needs neither TensorFlow nor an ffmpeg command, and a clip takes the space of its file.
    """

    def get_tensor_info(self) -> tfds.features.TensorInfo:
        """One string of bytes."""
        return tfds.features.TensorInfo(shape=(), dtype=np.object_)

    def encode_example(self, example_data: bytes | str | os.PathLike[str]) -> bytes:
        """The bytes of the file."""
        if isinstance(example_data, bytes):
            return example_data
        return epath.Path(example_data).read_bytes()

    def decode_example(self, tfexample_data: bytes) -> bytes:
        """The bytes of the file."""
        return tfexample_data


class _Undecoded(tfds.decode.SkipDecoding):
    """Leaves image files as bytes, also those in a list: probing needs but the first of them."""

    def decode_batch_example_np(self, serialized_example: Iterable[bytes]) -> list[bytes]:
        return list(serialized_example)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFDS:
    """The set `name` of tensorflow-datasets, prepared as array_record in `data_dir`.

    split        as tfds writes it: "train", "train[:60%]".
    data_dir     where sets lie, local or gs://; None is the default of tfds, ~/tensorflow_datasets.
    clip_key     which feature holds the clips; None finds it.
    caption_key  which feature holds the captions; None finds it, if there is one.
    fps          the rate of clips stored as lists of images, which have none of their own.
    """

    name: str
    split: str = "train"
    data_dir: str | None = None
    clip_key: str | None = None
    caption_key: str | None = None
    fps: float = 24.0

    def open(self) -> OpenedTFDS:
        """Goes through all examples. Raises ValueError if the set cannot be used, and says why."""
        builder = _builder(self)
        features: dict[str, FeatureConnector] = dict(builder.info.features.items())  # pyright: ignore
        clip_key = self.clip_key or _clip_key(self.name, features)
        caption_keys = (self.caption_key,) if self.caption_key else _caption_keys(features)
        for key in (clip_key, *caption_keys):
            if key not in features:
                known = ", ".join(sorted(features))
                raise ValueError(f"{self.name} has no feature {key!r}, but {known}")
        examples = _examples(builder, self.split, features)
        job = functools.partial(
            _examined,
            examples,
            clip_key=clip_key,
            captions={key: features[key] for key in caption_keys},
            fps=self.fps,
        )
        with ThreadPoolExecutor(_THREADS) as pool:
            examined = list(pool.map(job, range(len(examples))))
        usable = [found for found in examined if not isinstance(found, Broken)]
        return OpenedTFDS(
            name=f"{self.name}[{self.split}]",
            examples=examples,
            clip_key=clip_key,
            records=tuple(record for record, _ in usable),
            broken=tuple(found for found in examined if isinstance(found, Broken)),
            probes=tuple(known for _, known in usable),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedTFDS:
    """A set whose examples have been gone through. See `datasets.OpenedSource`.

    A record's name is its place among `examples`, in eight digits.
    """

    name: str
    examples: Sequence[Any]
    clip_key: str
    records: tuple[Record, ...]
    broken: tuple[Broken, ...]
    probes: tuple[video.Probe, ...]

    def read(
        self, index: int, start: int, count: int, *, fps: video.Rate | None = None
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """Up to `count` frames from `start` on, at the rate `fps`. See `datasets.OpenedSource`."""
        record, known = self.records[index], self.probes[index]
        with video.named_errors(f"{self.name} {record.name}"):
            clip = self.examples[int(record.name)][self.clip_key]
            if isinstance(clip, bytes):
                return video.read_clip(clip, start, count=count, fps=fps, known=known)
            times = known.times(start, count, fps=fps)
            chosen = [clip[int(time * known.fps + 0.25)] for time in times]
            return _stacked(chosen, known)


def _builder(source: TFDS) -> tfds.core.DatasetBuilder:
    where = source.data_dir or "~/tensorflow_datasets"
    try:
        builder = tfds.builder(source.name, data_dir=source.data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        reason = (
            f"tensorflow-datasets has no set {source.name!r}, nor is there one in {where}; if a "
            f"folder is meant, there is none at {source.name}"
        )
        raise ValueError(reason) from error
    except ImportError as error:
        raise ValueError(_needs_tensorflow(source.name, str(error))) from error
    if not builder.info.splits:
        reason = f"{source.name} is not prepared in {where}"
        raise ValueError(f"{reason}; run: tfds build {source.name} --file_format=array_record")
    return builder


def _examples(
    builder: tfds.core.DatasetBuilder, split: str, features: Mapping[str, FeatureConnector]
) -> Sequence[Any]:
    undecoded = {key: _Undecoded() for key in features if _is_clip(features[key])}
    try:
        return builder.as_data_source(split=split, decoders=undecoded)  # pyright: ignore
    except NotImplementedError as error:
        stored = getattr(builder.info.file_format, "value", "nothing")
        reason = f"it is stored as {stored}, not as array_record"
        raise ValueError(_needs_tensorflow(builder.info.name, reason)) from error


def _needs_tensorflow(name: str, reason: str) -> str:
    return (
        f"{name} cannot be read without TensorFlow: {reason}. Install it (pip install"
        " 'sora_jax[tensorflow]') and store the set anew: tfds convert_format"
        " --out_file_format=array_record; clips in a tfds Video feature as"
        " sora_jax.data.tfds.EncodedVideo"
    )


def _is_clip(feature: FeatureConnector) -> bool:
    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
        return isinstance(feature, tfds.features.Image)
    return isinstance(feature, EncodedVideo | tfds.features.Image)


def _clip_key(name: str, features: Mapping[str, FeatureConnector]) -> str:
    """The only feature of clips, or the one called so."""
    keys = [key for key in features if _is_clip(features[key])]
    named = [key for key in ("video", "image") if key in keys]
    if not keys:
        raise ValueError(
            f"{name} has no clips: {', '.join(f'{k} {v}' for k, v in features.items())}"
        )
    if len(keys) > 1 and not named:
        raise ValueError(f"{name} has several features of clips; set clip_key to one of {keys}")
    return (named or keys)[0]


def _caption_keys(features: Mapping[str, FeatureConnector]) -> tuple[str, ...]:
    """All texts with the name of a caption; else the only label, or the only text."""
    texts = [key for key in features if isinstance(features[key], tfds.features.Text)]
    labels = [key for key in features if isinstance(features[key], tfds.features.ClassLabel)]
    captions = [key for key in _CAPTION_KEYS if key in texts]
    for keys in (labels, texts):
        captions = captions or (keys if len(keys) == 1 else [])
    return tuple(captions)


def _examined(
    examples: Sequence[Any],
    place: int,
    *,
    clip_key: str,
    captions: Mapping[str, FeatureConnector],
    fps: float,
) -> tuple[Record, video.Probe] | Broken:
    """The record of the example at a place, or why there is none."""
    name = f"{place:08d}"
    try:
        with video.named_errors(name):
            example = examples[place]
            known = _probe(example[clip_key], fps)
            texts = tuple(_caption(key, example[key], captions[key]) for key in captions)
    except video.VideoError as error:
        return Broken(name=name, reason=error.reason)
    record = Record(
        name=name,
        frames=known.frames,
        height=known.height,
        width=known.width,
        fps=known.fps,
        captions=tuple(caption for caption in texts if caption.text),
    )
    return record, known


def _probe(clip: bytes | list[bytes], fps: float) -> video.Probe:
    if isinstance(clip, bytes):
        return video.probe(clip)
    if not clip:
        raise ValueError("there is not one frame")
    first = video.probe(clip[0])
    count = len(clip)
    return dataclasses.replace(first, frames=count, fps=fps, seconds=count / fps)


def _caption(key: str, value: Any, feature: FeatureConnector) -> Caption:
    if isinstance(feature, tfds.features.ClassLabel):
        # A test split without labels has -1.
        value = feature.int2str(int(value)) if value >= 0 else ""
    text = value.decode() if isinstance(value, bytes) else str(value)
    kind = "descriptive" if key == "descriptive" else "short"
    return Caption(text=" ".join(text.split()), kind=kind)


def _stacked(
    images: Sequence[bytes], known: video.Probe
) -> UInt8[np.ndarray, "frames height width 3"]:
    frames = [video.read_clip(image)[0] for image in images]
    empty = np.zeros((0, known.height, known.width, 3), np.uint8)
    return np.stack(frames) if frames else empty
