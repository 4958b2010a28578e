"""Promises of latents on disk: what is written is read, and a killed writer leaves nothing half."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sora_jax.data import copies, shards
from sora_jax.data.assembly import Loaded
from sora_jax.data.captions import Bytes
from sora_jax.data.latents import LatentClips, LatentWriter
from sora_jax.data.pipeline import Clips, OpenedClips
from sora_jax.data.plan import PlanError
from sora_jax.data.spans import Spans
from sora_jax.data.suggest import Suggested
from tests.data.fake import MIXED

CLIPS = Clips(
    source=MIXED,
    buckets=Suggested(tokens=256, pixels=64 * 64),
    tokenizer=Bytes(length=32),
    workers=0,
).once()


def encoded(loaded: Loaded) -> np.ndarray:
    """Stands in for an autoencoder: every 4th frame and 8th pixel, scaled."""
    assert loaded.batch.video is not None
    video = np.asarray(loaded.batch.video)
    return (video[:, ::4, ::8, ::8] / 128 - 1).astype(np.float32)


def write(data: OpenedClips, writer: LatentWriter, *, steps: int | None = None) -> None:
    stop = writer.start + steps if steps else data.epoch_steps
    with data.loader(start=writer.start) as loader:
        for step in range(writer.start, stop):
            loaded = next(loader)
            writer.write(loaded, encoded(loaded), step=step)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("latents"))
    data = CLIPS.open()
    writer = data.sink(path)
    write(data, writer)
    writer.finish()
    return path


def latents(path: str, **changes: object) -> LatentClips:
    clips = LatentClips(path=path, tokenizer=Bytes(length=32), workers=0)
    return dataclasses.replace(clips, **changes)  # pyright: ignore[reportArgumentType]


def rows(clips: Clips | LatentClips) -> dict[bytes, np.ndarray]:
    """The valid part of each window of one pass (encoded), by itself as bytes."""
    data = clips.open()
    found = {}
    with data.loader() as loader:
        for loaded in itertools.islice(loader, data.epoch_steps):
            latent = loaded.batch.latent
            made = encoded(loaded) if latent is None else np.asarray(latent)
            for values, (frames, height, width) in zip(made, loaded.batch.extent, strict=True):
                if frames:
                    valid = values[: 1 + frames // 4, : -(-height // 8), : -(-width // 8)]
                    valid = valid.astype(np.float16)
                    found[valid.tobytes()] = valid
    return found


def test_latents_come_back_as_they_were_written_each_once(folder: str):
    before, after = rows(CLIPS), rows(latents(folder))
    assert len(before) == len(CLIPS.open().plan.windows)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_frames_encoded_by_themselves_come_back_in_their_places(tmp_path: Path):
    data = dataclasses.replace(CLIPS, spans=Spans()).open()
    writer = data.sink(str(tmp_path))
    with data.loader() as loader:
        for step in range(data.epoch_steps):
            loaded = next(loader)
            latent = encoded(loaded)
            writer.write(loaded, latent, step=step, spans=-latent)
    writer.finish()
    opened = latents(str(tmp_path)).open()
    seen = 0
    with opened.loader() as loader:
        for loaded in itertools.islice(loader, opened.epoch_steps):
            batch, shape = loaded.batch, opened.shapes[loaded.bucket]
            assert batch.spans is not None and shape.spans is not None
            assert batch.spans.shape == shape.spans.shape == batch.latent.shape
            for latent, own, given in zip(batch.latent, batch.spans, batch.spanned, strict=True):
                assert np.array_equal(own, np.where(given[:, None, None, None], -latent, 0))
                assert not given.all() and (given.any() or not latent[1:].any())
                seen += given.any()
    assert seen > 5


def test_places_beyond_the_extent_are_zero(folder: str):
    data = latents(folder).open()
    with data.loader() as loader:
        for loaded in itertools.islice(loader, data.epoch_steps):
            latent = np.asarray(loaded.batch.latent)
            for values, (frames, height, width) in zip(latent, loaded.batch.extent, strict=True):
                assert not values[1 + (frames + 2) // 4 if frames else 0 :].any()
                assert not values[:, -(-height // 8) :].any()
                assert not values[:, :, -(-width // 8) :].any()


def test_batches_are_as_the_shapes_say_and_captions_of_both_kinds_come(folder: str):
    data = latents(folder).open()
    texts = set()
    with data.loader() as loader:
        for loaded in itertools.islice(loader, 3 * data.epoch_steps):
            batch, shape = loaded.batch, data.shapes[loaded.bucket]
            assert batch.video is None and shape.latent is not None and batch.latent is not None
            assert batch.latent.shape == shape.latent.shape and batch.latent.dtype == np.float32
            text = zip(np.asarray(batch.text.tokens), np.asarray(batch.text.length), strict=True)
            texts |= {bytes(tokens[1:length].tolist()).decode() for tokens, length in text}
    assert {"short", "a long"} <= {text[:6].strip() for text in texts}


def test_a_budget_of_tokens_sets_the_batches(folder: str):
    data = latents(folder, tokens=512, multiple=2).open()
    for bucket in data.plan.used:
        clip = (
            data.plan.buckets[0].batch and (1 + bucket.frames // 4) * bucket.height * bucket.width
        )
        assert bucket.batch % 2 == 0 and 512 - 2 * clip / 256 < bucket.batch * clip / 256 <= 512


def test_the_autoencoder_lies_beside_its_latents(folder: str):
    assert latents(folder).open().artifacts == {"autoencoder": f"{folder}/autoencoder"}


def test_latents_that_are_not_finished_are_refused(tmp_path: Path):
    data = CLIPS.open()
    with pytest.raises(PlanError, match="no finished latents"):
        latents(str(tmp_path / "nothing")).open()
    writer = dataclasses.replace(data).sink(str(tmp_path))
    writer.rows_a_shard = 2
    write(data, writer, steps=2)
    with pytest.raises(PlanError, match="no finished latents"):
        latents(str(tmp_path)).open()


def test_a_writer_that_was_killed_is_continued_to_the_same_latents(tmp_path: Path, folder: str):
    data = CLIPS.open()
    killed = data.sink(str(tmp_path))
    killed.rows_a_shard = 4
    write(data, killed, steps=3)
    (tmp_path / "00000-of-00001.00077.array_record.partial").write_bytes(b"half")
    again = data.sink(str(tmp_path))
    again.rows_a_shard = 4
    assert 0 < again.start <= 3
    write(data, again)
    again.finish()
    assert not list(tmp_path.glob("*.partial"))
    ours, theirs = rows(latents(str(tmp_path))), rows(latents(folder))
    assert ours.keys() == theirs.keys()


def test_what_a_writer_was_asked_to_keep_is_not_encoded_again(tmp_path: Path, folder: str):
    data = CLIPS.open()
    noticed = data.sink(str(tmp_path))
    write(data, noticed, steps=3)
    noticed.keep()
    again = data.sink(str(tmp_path))
    assert again.start == 3
    write(data, again)
    again.finish()
    assert rows(latents(str(tmp_path))).keys() == rows(latents(folder)).keys()


def test_unfinished_latents_of_other_clips_are_not_mixed_in(tmp_path: Path):
    data = CLIPS.open()
    writer = data.sink(str(tmp_path))
    writer.rows_a_shard = 1
    write(data, writer, steps=1)
    with pytest.raises(FileExistsError, match="unfinished latents of other clips"):
        dataclasses.replace(CLIPS, seed=1).open().sink(str(tmp_path))


def test_latents_are_written_in_one_pass_over_stills_and_videos_alike(tmp_path: Path):
    with pytest.raises(PlanError, match="once"):
        dataclasses.replace(CLIPS, image_share=0.3).open().sink(str(tmp_path))


def test_remote_folders_are_written_and_read_through_local_copies(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch
):
    for module in (shards, copies):
        monkeypatch.setattr(module, "is_remote", lambda path: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = CLIPS.open()
    writer = data.sink(str(tmp_path / "bucket"))
    write(data, writer)
    writer.finish()
    home = tmp_path / "sora_jax_latents"
    home.mkdir()
    # What a process that was killed had copied, and what one that lives is copying.
    gone, living = (home / f"0.array_record.{pid}" for pid in (2**22 + 1, os.getpid()))
    gone.touch()
    living.touch()
    copied = rows(latents(str(tmp_path / "bucket")))
    assert living.exists() and not gone.exists()
    living.unlink()
    (copy,) = home.iterdir()
    copy.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(PlanError, match=r"has room for 0.0: set TMPDIR"):
        latents(str(tmp_path / "bucket")).open()
    monkeypatch.undo()
    assert copied.keys() == rows(latents(folder)).keys()


def test_latents_that_are_not_finite_are_refused_by_name(tmp_path: Path):
    data = CLIPS.open()
    writer = data.sink(str(tmp_path))
    with data.loader() as loader:
        loaded = next(loader)
    with pytest.raises(ValueError, match="latents of clip"):
        writer.write(loaded, np.nan * encoded(loaded), step=0)


def test_finished_latents_are_not_written_over(folder: str):
    with pytest.raises(FileExistsError, match="already holds finished latents"):
        CLIPS.open().sink(folder)


def test_clips_that_cannot_be_read_are_left_out_and_named(tmp_path: Path):
    source = dataclasses.replace(MIXED, failing=(1,))
    data = dataclasses.replace(CLIPS, source=source).open()
    writer = data.sink(str(tmp_path))
    write(data, writer)
    writer.finish()
    assert [shard["failed"] for shard in writer.shards] == [{"clip1": "the file broke"}]
    opened = latents(str(tmp_path)).open()
    assert len(opened.plan.windows) == int((data.plan.windows.record != 1).sum())


def test_all_copies_have_room_before_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = CLIPS.open()
    writer = dataclasses.replace(data).sink(str(tmp_path / "bucket"))
    writer.rows_a_shard = 4
    write(data, writer)
    writer.finish()
    sizes = [path.stat().st_size for path in (tmp_path / "bucket").glob("*.array_record")]
    for module in (shards, copies):
        monkeypatch.setattr(module, "is_remote", lambda path: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=sum(sizes) - 1))
    with pytest.raises(PlanError, match=rf"{len(sizes)} files of .* set TMPDIR"):
        latents(str(tmp_path / "bucket")).open()
    assert len(sizes) > 2 and not list((tmp_path / "sora_jax_latents").iterdir())


def test_a_damaged_record_becomes_an_empty_row_and_is_named(tmp_path: Path):
    data = CLIPS.open()
    writer = data.sink(str(tmp_path))
    write(data, writer)
    writer.finish()
    shard = next(tmp_path.glob("*.array_record"))
    content = bytearray(shard.read_bytes())
    place = content.index(b"clip2")
    content[place : place + 64] = b"?" * 64
    shard.write_bytes(bytes(content))
    opened = latents(str(tmp_path)).open()
    with opened.loader() as loader:
        failed = {}
        for loaded in itertools.islice(loader, opened.epoch_steps):
            failed |= loaded.failed
            assert np.all(np.isfinite(np.asarray(loaded.batch.latent)))
    assert list(failed) == ["clip2"] and "damaged" in failed["clip2"]


def test_another_encoding_of_the_same_clips_has_another_fingerprint(tmp_path: Path, folder: str):
    data = CLIPS.open()
    writer = data.sink(str(tmp_path))
    with data.loader() as loader:
        for step in range(data.epoch_steps):
            loaded = next(loader)
            writer.write(loaded, 2 * encoded(loaded), step=step)
    writer.finish()
    assert latents(str(tmp_path)).open().fingerprint != latents(folder).open().fingerprint
    assert latents(folder).open().fingerprint == latents(folder).open().fingerprint
