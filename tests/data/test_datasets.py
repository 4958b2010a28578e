"""Promises of the sources: folders with captions beside the clips, and sets of tfds."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

from sora_jax.data.datasets import (
    Caption,
    OpenedSource,
    Source,
    frames_at,
)
from sora_jax.data.folder import Folder, OpenedFolder
from sora_jax.data.tfds import TFDS, EncodedVideo
from sora_jax.data.video import VideoError
from tests.data.media import numbered, numbers, write_movie


def _still(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbered(1)[0]).save(path)


def _captions(opened: OpenedSource) -> dict[str, list[str]]:
    return {
        record.name: [f"{caption.kind}: {caption.text}" for caption in record.captions]
        for record in opened.records
    }


def _reasons(opened: OpenedFolder) -> dict[str, str]:
    return {each.name: each.reason for each in opened.broken}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clips, a damaged one, a foreign one, and what is none of our business."""
    root = tmp_path / "clips"
    _still(root / "b" / "still.PNG")
    write_movie(root / "clip.mp4", numbered(12))
    write_movie(root / "b" / "deep.mkv", numbered(5, 31, 33), codec="ffv1")
    (root / "broken.webm").write_bytes(b"nothing")
    (root / "photo.heic").write_bytes(b"nothing")
    (root / "README.md").write_text("about these clips")
    _still(root / ".thumbnails" / "a.png")
    _still(root / "._clip.png")
    return root


def test_a_folder_is_a_source_in_the_order_of_names(folder: Path) -> None:
    source = Folder(path=str(folder))
    opened = source.open()
    assert isinstance(source, Source)
    assert isinstance(opened, OpenedSource)
    assert [record.name for record in opened.records] == ["b/deep.mkv", "b/still.PNG", "clip.mp4"]
    sizes = [(r.frames, r.height, r.width, r.fps) for r in opened.records]
    assert sizes == [(5, 31, 33, 10.0), (1, 48, 64, 0.0), (12, 48, 64, 10.0)]
    assert sum(not record.captions for record in opened.records) == 3


def test_every_file_that_cannot_be_used_is_named_with_the_reason(folder: Path) -> None:
    reasons = _reasons(Folder(path=str(folder)).open())
    assert list(reasons) == ["broken.webm", "photo.heic"]
    assert "no video" in reasons["broken.webm"]
    assert ".heic files are not read; convert it" in reasons["photo.heic"]


def test_a_folder_is_read_by_worker_processes_without_scanning_again(folder: Path) -> None:
    opened = pickle.loads(pickle.dumps(Folder(path=str(folder)).open()))
    (folder / "added.mp4").touch()
    assert numbers(opened.read(2, 3, 4)) == [3, 4, 5, 6]
    assert numbers(opened.read(2, 1, 99, fps=5)) == [2, 4, 6, 8, 10]
    assert frames_at(opened.records[2], 5) == 6
    assert frames_at(opened.records[1], 5) == 1
    assert numbers(opened.read(1, 0, 5, fps=24)) == [0]


def test_a_clip_that_breaks_after_the_scan_is_a_named_error(folder: Path) -> None:
    opened = Folder(path=str(folder)).open()
    (folder / "clip.mp4").write_bytes(b"overwritten")
    with pytest.raises(VideoError, match=r"clips/clip\.mp4"):
        opened.read(2, 0, 5)
    (folder / "b" / "still.PNG").unlink()
    with pytest.raises(VideoError, match=r"still\.PNG: No such file"):
        opened.read(1, 0, 5)


def test_no_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere: there is no such folder"):
        Folder(path=str(tmp_path / "nowhere")).open()


def test_captions_beside_a_clip_may_be_text_or_json(folder: Path) -> None:
    (folder / "clip.txt").write_text("\ufeffa grey\n clip ", encoding="utf-8")
    (folder / "b" / "deep.json").write_text(
        json.dumps({"short": "deep", "descriptive": ["one", "two"], "id": 3})
    )
    (folder / "b" / "still.json").write_text('["a still", ""]')
    opened = Folder(path=str(folder)).open()
    assert _captions(opened) == {
        "b/deep.mkv": ["short: deep", "descriptive: one", "descriptive: two"],
        "b/still.PNG": ["short: a still"],
        "clip.mp4": ["short: a grey clip"],
    }
    assert sum(not record.captions for record in opened.records) == 0


def test_captions_may_be_lines_of_one_file_in_any_folder(folder: Path) -> None:
    lines = [{"file": "clip.mp4", "caption": "top"}, {"file": "b/deep.mkv", "descriptive": "far"}]
    (folder / "captions.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))
    (folder / "b" / "captions.jsonl").write_text('{"file": "./deep.mkv", "short": ["near", "by"]}')
    opened = Folder(path=str(folder)).open()
    assert sorted(_captions(opened)["b/deep.mkv"]) == [
        "descriptive: far",
        "short: by",
        "short: near",
    ]
    assert _captions(opened)["clip.mp4"] == ["short: top"]
    assert list(_reasons(opened)) == ["broken.webm", "photo.heic"]


def test_malformed_captions_are_named_and_their_clips_stay(folder: Path) -> None:
    (folder / "clip.json").write_text('{"short": ')
    (folder / "b" / "deep.json").write_text('{"title": "x"}')
    (folder / "b" / "still.txt").write_bytes(b"caf\xe9")
    lines = ['{"file": "clip.mp4", "caption": 3}', "[]", '{"file": "gone.mp4", "caption": "x"}']
    (folder / "captions.jsonl").write_text("\n".join(lines))
    opened = Folder(path=str(folder)).open()
    assert sum(not record.captions for record in opened.records) == len(opened.records) == 3
    reasons = _reasons(opened)
    assert "is no JSON" in reasons["clip.json"]
    assert "none of the keys caption, short, descriptive" in reasons["b/deep.json"]
    assert "not in UTF-8" in reasons["b/still.txt"]
    assert "neither a text nor several" in reasons["captions.jsonl:1"]
    assert "no object with a path under the key file" in reasons["captions.jsonl:2"]
    assert "gone.mp4, which is not there" in reasons["captions.jsonl:3"]


def test_captions_that_differ_are_reported_and_those_that_agree_are_not(folder: Path) -> None:
    (folder / "clip.json").write_text('"one"')
    (folder / "clip.txt").write_text("another")
    (folder / "b" / "deep.json").write_text('"same"')
    (folder / "b" / "captions.jsonl").write_text('{"file": "deep.mkv", "caption": "same"}')
    opened = Folder(path=str(folder)).open()
    assert _captions(opened)["clip.mp4"] == ["short: one"]
    assert "clip.mp4 has other captions in clip.json" in _reasons(opened)["clip.txt"]
    assert list(_reasons(opened)) == ["broken.webm", "clip.txt", "photo.heic"]


def test_a_bucket_is_a_folder(folder: Path, bucket: str) -> None:
    (folder / "b" / "captions.jsonl").write_text('{"file": "deep.mkv", "caption": "deep"}')
    (folder / "clip.txt").write_text("a clip")
    for path in folder.rglob("*"):
        if path.is_file():
            target = epath.Path(bucket) / str(path.relative_to(folder))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    local, remote = Folder(path=str(folder)).open(), Folder(path=bucket).open()
    assert remote.records == local.records
    assert _reasons(remote) == _reasons(local)
    np.testing.assert_array_equal(remote.read(2, 4, 3), local.read(2, 4, 3))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the tiny sets of tfds are prepared as array_record."""
    from tests.data.tiny_sets import TinyImages, TinyLists, TinyVideos

    root = str(tmp_path_factory.mktemp("sets"))
    for builder in (TinyImages, TinyLists, TinyVideos):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def _by_caption(opened: OpenedSource) -> dict[str, int]:
    return {record.captions[0].text: index for index, record in enumerate(opened.records)}


def test_a_set_of_images_is_read_with_labels_as_captions(sets: str) -> None:
    opened = TFDS(name="tiny_images", data_dir=sets).open()
    assert isinstance(opened, OpenedSource)
    assert [(r.frames, r.height, r.width, r.fps) for r in opened.records] == [(1, 24, 32, 0.0)] * 4
    shown = [
        (r.captions[0].text, numbers(opened.read(i, 0, 9))) for i, r in enumerate(opened.records)
    ]
    assert sorted(shown) == [("dark", [0]), ("dark", [1]), ("light", [2]), ("light", [3])]


def test_a_set_of_lists_of_images_is_read_at_the_given_rate(sets: str) -> None:
    opened = TFDS(name="tiny_lists", data_dir=sets, fps=4.0).open()
    index = _by_caption(opened)["clip 2"]
    record = opened.records[index]
    assert (record.frames, record.height, record.width, record.fps) == (8, 24, 32, 4.0)
    assert numbers(opened.read(index, 2, 3)) == [2, 3, 4]
    assert numbers(opened.read(index, 1, 9, fps=2)) == [2, 4, 6]
    assert opened.read(index, 8, 1).shape == (0, 24, 32, 3)


def test_a_damaged_example_is_reported_and_the_others_are_used(sets: str) -> None:
    opened = TFDS(name="tiny_lists", data_dir=sets).open()
    assert len(opened.records) == 2
    assert len(opened.broken) == 1
    assert "damaged" in opened.broken[0].reason


def test_a_set_of_encoded_videos_is_read_also_after_pickling(sets: str) -> None:
    opened = TFDS(name="tiny_videos", data_dir=sets, split="train[:100%]").open()
    index = _by_caption(opened)["short 1"]
    assert opened.records[index].captions[1] == Caption(text="long", kind="descriptive")
    assert (opened.records[index].frames, opened.records[index].fps) == (9, 10.0)
    copy = pickle.loads(pickle.dumps(opened))
    assert numbers(copy.read(index, 3, 4)) == [3, 4, 5, 6]
    with pytest.raises(VideoError, match=r"tiny_videos\[train\[:100%\]\]"):
        dataclasses.replace(opened, examples=[{"video": b"bad"}] * 2).read(index, 0, 1)


def test_encoded_videos_are_stored_as_they_are() -> None:
    assert EncodedVideo().encode_example(b"bytes") == b"bytes"


def test_no_set_needs_tensorflow(sets: str) -> None:
    TFDS(name="tiny_videos", data_dir=sets).open()
    assert "tensorflow" not in sys.modules


def _edit(sets: str, target: Path, file: str, **changes: object) -> str:
    """A copy of the set of images, of another name, whose description says something else."""
    for path in (Path(sets) / "tiny_images" / "1.0.0").iterdir():
        copy = target / "copy" / "1.0.0" / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for name, all_changes in (("dataset_info.json", {"name": "copy"}), (file, changes)):
        description = target / "copy" / "1.0.0" / name
        description.write_text(json.dumps(json.loads(description.read_text()) | all_changes))
    return str(target)


def test_what_needs_tensorflow_says_so(sets: str, tmp_path: Path) -> None:
    remedy = r"pip install 'sora_jax\[tensorflow\]'"
    where = _edit(sets, tmp_path / "a", "dataset_info.json", fileFormat="tfrecord")
    with pytest.raises(ValueError, match=rf"stored as tfrecord.*{remedy}"):
        TFDS(name="copy", data_dir=where).open()

    video = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {"shape": {"dimensions": ["-1", "8", "8", "3"]}, "dtype": "uint8"},
    }
    features = {"features": {"video": video}}
    where = _edit(sets, tmp_path / "b", "features.json", featuresDict=features)
    with pytest.raises(ValueError, match=rf"without TensorFlow.*{remedy}.*EncodedVideo"):
        TFDS(name="copy", data_dir=where).open()


def test_a_set_that_cannot_be_used_says_why(sets: str) -> None:
    with pytest.raises(ValueError, match="has no set 'nothing'"):
        TFDS(name="nothing", data_dir=sets).open()
    with pytest.raises(ValueError, match=r"not prepared.*tfds build mnist"):
        TFDS(name="mnist", data_dir=sets).open()
    with pytest.raises(ValueError, match="Unknown split 'test'"):
        TFDS(name="tiny_images", data_dir=sets, split="test").open()
    with pytest.raises(ValueError, match="no feature 'clip', but file, image, label"):
        TFDS(name="tiny_images", data_dir=sets, clip_key="clip").open()
