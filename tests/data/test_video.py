"""Promises of reading any media file and of writing MP4, GIF and PNG."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sora_jax.data.video import (
    VideoError,
    contact_sheet,
    encode,
    frames_at_rate,
    probe,
    read_at,
    read_clip,
    read_metadata,
    write_video,
)
from tests.data.media import numbered, numbers, restamp, turn, write_movie, write_sound

CONTAINERS = {
    "a.mp4": {},
    "b.mov": {"options": {"g": "5"}},
    "c.mkv": {"options": {"g": "7", "bf": "2"}},
    "d.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "e.avi": {"codec": "mpeg4", "options": {"g": "6", "qmax": "2"}},
    "f.mpg": {"codec": "mpeg2video", "rate": 25, "options": {"g": "6", "bf": "2", "qmax": "2"}},
    "g.ogv": {"codec": "libvpx", "options": {"deadline": "realtime", "b": "400000"}},
    "h.m4v": {"codec": "mpeg4", "options": {"bf": "2", "qmax": "2"}},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_frame_however_it_is_reached(
    tmp_path: Path, name: str
) -> None:
    path = write_movie(tmp_path / name, numbered(24), **CONTAINERS[name])
    known = probe(path)
    assert (known.frames, known.height, known.width) == (24, 48, 64)
    assert known.fps == pytest.approx(CONTAINERS[name].get("rate", 10), rel=1e-3)
    assert numbers(read_clip(path)) == list(range(24))
    for start in range(0, 24, 5):
        clip = read_clip(path, start, count=3, known=known)
        assert numbers(clip) == list(range(start, min(start + 3, 24)))


def test_resampling_takes_the_frame_on_display_and_blends_none(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "clip.mp4", numbered(10), rate=10)
    assert numbers(read_clip(path, fps=5)) == [0, 2, 4, 6, 8]
    assert numbers(read_clip(path, fps=20)) == [k // 2 for k in range(20)]
    assert numbers(read_clip(path, fps=4)) == [0, 2, 5, 7]
    assert numbers(read_clip(path, 2, count=2, fps=4)) == [5, 7]
    assert numbers(read_at(path, [0.0, 0.05, 0.71, 5.0])) == [0, 0, 7]


def test_the_number_of_frames_at_a_rate_is_the_number_that_is_read(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "clip.mp4", numbered(11), rate=Fraction(30000, 1001))
    for fps in (1, 7.5, 23.976, 24, 29.97, 60):
        assert len(read_clip(path, fps=fps)) == probe(path).frames_at(fps)
    assert frames_at_rate(1, 0.0, fps=24) == 1


def test_variable_frame_rate_is_read_by_time(tmp_path: Path) -> None:
    stamps = [0, 1, 2, 8, 9, 10]
    path = write_movie(tmp_path / "clip.mp4", numbered(6), stamps=stamps, rate=10)
    known = probe(path)
    assert known.variable
    assert known.frames == 6
    assert known.seconds == pytest.approx(1.1)
    assert known.fps == pytest.approx(6 / 1.1)
    assert numbers(read_clip(path, fps=10)) == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5]
    assert numbers(read_clip(path, 6, count=3, fps=10)) == [2, 2, 3]
    assert len(read_clip(path)) == 6


def test_timestamps_in_order_of_storage_do_not_shuffle_frames(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "good.mp4", numbered(24), options={"bf": "3", "b-adapt": "0"})
    bad = restamp(path, tmp_path / "bad.mp4")
    assert probe(bad).counted
    assert numbers(read_clip(bad)) == list(range(24))
    assert numbers(read_clip(bad, 9, count=4)) == [9, 10, 11, 12]


def test_a_clip_shorter_than_asked_gives_what_there_is(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "clip.mp4", numbered(5))
    assert numbers(read_clip(path, 3, count=100)) == [3, 4]
    assert read_clip(path, 5, count=3).shape == (0, 48, 64, 3)


def test_rotation_in_the_metadata_is_applied(tmp_path: Path) -> None:
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    frames[:, :16, :16] = 255
    path = turn(write_movie(tmp_path / "clip.mp4", frames))
    known = probe(path)
    assert (known.height, known.width) == (64, 48)
    clip = read_clip(path)
    assert clip.shape == (3, 64, 48, 3)
    # A quarter clockwise takes the top left corner to the top right.
    assert clip[0, :12, -12:].min() > 200
    assert clip[0, :, :24].max() < 60


def test_pixels_become_square_by_enlarging(tmp_path: Path) -> None:
    wide = write_movie(tmp_path / "wide.mkv", numbered(3), aspect=Fraction(4, 3))
    tall = write_movie(tmp_path / "tall.mp4", numbered(3), aspect=Fraction(2, 3))
    assert read_clip(wide).shape == (3, 48, 85, 3)
    assert read_clip(tall).shape == (3, 72, 64, 3)
    assert (probe(tall).height, probe(tall).width) == (72, 64)


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        ("yuv444p", (33, 21)),
        ("yuv420p", (33, 21)),
        ("gray", (48, 64)),
        ("yuv420p10le", (48, 64)),
        ("gray10le", (31, 64)),
        ("bgr0", (35, 17)),
    ],
)
def test_odd_sizes_grey_and_deep_colours_become_rgb(
    tmp_path: Path, layout: str, size: tuple[int, int]
) -> None:
    path = write_movie(tmp_path / "clip.mkv", numbered(6, *size), codec="ffv1", layout=layout)
    clip = read_clip(path)
    assert clip.shape == (6, *size, 3)
    assert numbers(clip) == list(range(6))


def test_transparent_video_lies_over_black(tmp_path: Path) -> None:
    frames = np.full((2, 32, 32, 4), 200, np.uint8)
    frames[:, :, :16, 3], frames[:, :, 16:, 3] = 255, 0
    path = write_movie(tmp_path / "clip.mov", frames, codec="qtrle", layout="argb", source="rgba")
    clip = read_clip(path)
    assert (clip[:, :, :16] == 200).all()
    assert (clip[:, :, 16:] == 0).all()
    assert probe(path).clear


def test_a_probe_tells_what_reading_takes_away(tmp_path: Path) -> None:
    opaque = np.full((8, 8, 4), 255, np.uint8)
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    assert (probe(tmp_path / "opaque.png").bits, probe(tmp_path / "opaque.png").clear) == (8, False)
    half = opaque.copy()
    half[0, 0, 3] = 128
    images = [Image.fromarray(each) for each in (half, opaque)]
    images[0].save(tmp_path / "half.png", save_all=True, append_images=images[1:], duration=100)
    assert (probe(tmp_path / "half.png").frames, probe(tmp_path / "half.png").clear) == (2, True)
    # Pillow reads colours of 16 bits, and cannot write them.
    deep = write_movie(tmp_path / "deep.png", numbered(1), codec="png", layout="rgb48be")
    assert (probe(deep).bits, read_clip(deep).shape) == (16, (1, 48, 64, 3))
    movie = write_movie(tmp_path / "ten.mkv", numbered(2), codec="ffv1", layout="yuv420p10le")
    assert (probe(movie).bits, probe(movie).clear) == (10, False)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animated_images_are_videos(tmp_path: Path, suffix: str) -> None:
    frames = numbered(6, 31, 45)
    images = [Image.fromarray(frame) for frame in frames]
    path = tmp_path / f"clip{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, lossless=True)
    known = probe(path)
    assert (known.frames, known.height, known.width, known.fps) == (6, 31, 45, 10.0)
    assert numbers(read_clip(path, 2, count=3)) == [2, 3, 4]
    assert numbers(read_clip(path, fps=5)) == [0, 2, 4]


def test_frames_of_an_animation_stay_as_long_as_they_say(tmp_path: Path) -> None:
    images = [Image.fromarray(frame) for frame in numbered(3)]
    path = tmp_path / "clip.webp"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 300, 200])
    assert probe(path).seconds == pytest.approx(0.6)
    assert numbers(read_clip(path, fps=10)) == [0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_a_still_image_is_a_clip_of_one_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still{suffix}"
    Image.fromarray(numbered(8)[7]).save(path)
    known = probe(path)
    assert (known.frames, known.fps, known.seconds) == (1, 0.0, 0.0)
    assert known.frames_at(24) == 1
    assert numbers(read_clip(path, 0, count=9, fps=24)) == [7]


def test_images_are_upright_opaque_and_not_clipped(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = np.zeros((32, 48, 3), np.uint8)
    photo[:16, :16] = 255
    Image.fromarray(photo).save(tmp_path / "photo.jpg", exif=exif)
    assert (probe(tmp_path / "photo.jpg").height, probe(tmp_path / "photo.jpg").width) == (48, 32)
    assert read_clip(tmp_path / "photo.jpg")[0, :12, -12:].min() > 200

    half = np.full((8, 8, 4), (255, 255, 255, 128), np.uint8)
    Image.fromarray(half).save(tmp_path / "half.png")
    assert (read_clip(tmp_path / "half.png") == 128).all()

    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert (read_clip(tmp_path / "deep.png") == 128).all()
    assert probe(tmp_path / "deep.png").bits == 16


def test_a_file_is_judged_by_its_contents_not_by_its_name(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "clip.mp4", numbered(4))
    assert numbers(read_clip(path.rename(tmp_path / "clip.gif"))) == [0, 1, 2, 3]
    assert numbers(read_clip((tmp_path / "clip.gif").read_bytes())) == [0, 1, 2, 3]


def _noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), dtype=np.uint8)


def test_a_file_cut_short_has_the_frames_before_the_cut(tmp_path: Path) -> None:
    path = write_movie(
        tmp_path / "clip.mp4", _noise(30), container_options={"movflags": "faststart"}
    )
    whole = read_clip(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    known = probe(path)
    assert 10 < known.frames < 20
    clip = read_clip(path)
    # The last frame of all is cut as well.
    assert len(clip) in (known.frames - 1, known.frames)
    np.testing.assert_array_equal(clip, whole[: len(clip)])


def test_damage_is_an_error_where_it_is_and_nowhere_else(tmp_path: Path) -> None:
    path = write_movie(
        tmp_path / "clip.mp4",
        _noise(60),
        options={"g": "10", "bf": "0"},
        container_options={"movflags": "faststart"},
    )
    whole = read_clip(path)
    data = bytearray(path.read_bytes())
    middle = len(data) * 5 // 12
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"clip\.mp4: damaged or unreadable"):
        read_clip(path, 20, count=10)
    np.testing.assert_array_equal(read_clip(path, 0, count=10), whole[:10])
    np.testing.assert_array_equal(read_clip(path, 50, count=5), whole[50:55])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.touch(), "empty"),
        (lambda path: path.write_bytes(b"no video at all" * 99), "no video"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "unreadable"),
        (lambda path: write_sound(path), "only audio"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(VideoError, match=reason) as caught:
        probe(path)
    assert str(path) in str(caught.value)


def test_tags_in_another_encoding_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, numbered(3), fps=8, metadata={"title": "cafe"})
    path.write_bytes(path.read_bytes().replace(b"cafe", b"caf\xe9"))
    assert numbers(read_clip(path)) == [0, 1, 2]
    assert read_metadata(path)["title"].startswith("caf")


METADATA = {
    "prompt": 'a réd 圆,\n"two" = lines; # \\',
    "seed": "3",
    "title": "",
    "a.b/c": "x" * 9000,
}


@pytest.mark.parametrize(("name", "count"), [("a.mp4", 12), ("a.gif", 12), ("a.png", 1)])
def test_what_is_written_comes_back_with_its_metadata(
    tmp_path: Path, name: str, count: int
) -> None:
    path = tmp_path / name
    frames = numbered(count, 64, 96)
    write_video(path, frames, fps=8, metadata=METADATA)
    assert numbers(read_clip(path)) == list(range(count))
    assert count == 1 or probe(path).fps == pytest.approx(8, rel=0.01)
    assert read_metadata(path) == METADATA
    write_video(path, frames, fps=8)
    assert read_metadata(path) == {}


@pytest.mark.parametrize("size", [(63, 64), (64, 95), (1, 1)])
def test_an_odd_size_is_neither_cropped_nor_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "clip.mp4", numbered(4, *size), fps=8)
    clip = read_clip(tmp_path / "clip.mp4")
    assert clip.shape == (4, *size, 3)
    assert numbers(clip) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif"])
def test_colours_survive(tmp_path: Path, name: str) -> None:
    colours = np.array([(220, 20, 20), (20, 200, 20), (20, 20, 220), (250, 250, 250)], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (4, 32, 32, 3))
    write_video(tmp_path / name, frames, fps=8)
    difference = read_clip(tmp_path / name).astype(int) - frames
    assert np.abs(difference).max() <= 4


def test_a_gif_begins_again_without_end(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.gif", numbered(3), fps=8)
    # The extension that all viewers follow, with a count of 0, which is no limit.
    assert b"NETSCAPE2.0\x03\x01\x00\x00\x00" in (tmp_path / "clip.gif").read_bytes()


@pytest.mark.parametrize("steady", [True, False])
def test_a_gif_that_ends_still_keeps_its_last_frame_as_long_as_it_is_shown(
    tmp_path: Path, steady: bool
) -> None:
    path = tmp_path / "clip.gif"
    clip = numbered(20)
    clip = clip if steady else np.concatenate([clip, np.repeat(clip[-1:], 12, 0)])
    write_video(path, clip, fps=8)
    found = probe(path)
    assert found.frames == len(clip) and not found.variable
    assert found.seconds == pytest.approx(len(clip) / 8, abs=0.06)
    assert numbers(read_clip(path, fps=8)) == numbers(read_clip(path)) == numbers(clip)
    assert numbers(read_clip(path, 18, count=4)) == numbers(clip[18:22])
    assert numbers(read_clip(path, fps=4)) == numbers(clip[::2])


def test_a_gif_keeps_its_rate_though_it_counts_in_hundredths(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.gif", numbered(30), fps=24)
    assert probe(tmp_path / "clip.gif").seconds == pytest.approx(30 / 24, abs=0.02)


def test_writing_says_what_is_wrong(tmp_path: Path) -> None:
    frames = numbered(2)
    with pytest.raises(ValueError, match=r"\.webm ending; write to one of \.mp4, \.gif, \.png"):
        write_video(tmp_path / "clip.webm", frames, fps=8)
    with pytest.raises(ValueError, match="one frame, not 2"):
        write_video(tmp_path / "clip.png", frames, fps=8)
    with pytest.raises(ValueError, match="nothing to write"):
        write_video(tmp_path / "clip.mp4", frames[:0], fps=8)
    with pytest.raises(ValueError, match="fps must be above 0"):
        write_video(tmp_path / "clip.mp4", frames, fps=0)
    with pytest.raises(VideoError, match=r"nowhere/clip\.mp4: cannot be written: No such"):
        write_video(tmp_path / "nowhere" / "clip.mp4", frames, fps=8)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, numbered(2), fps=8)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(VideoError, match=r"clip\.mp4: cannot be written: No space left"):
        write_video(path, numbered(5), fps=8)
    assert list(tmp_path.iterdir()) == [path]
    assert len(read_clip(path)) == 2


def test_buckets_are_read_and_written_like_folders(bucket: str) -> None:
    write_video(f"{bucket}/clip.mp4", numbered(6), fps=8, metadata={"seed": "1"})
    assert numbers(read_clip(f"{bucket}/clip.mp4", 2, count=3)) == [2, 3, 4]
    assert read_metadata(f"{bucket}/clip.mp4") == {"seed": "1"}
    write_video(f"{bucket}/still.png", numbered(1), fps=0)
    assert numbers(read_clip(f"{bucket}/still.png")) == [0]


def test_a_contact_sheet_has_a_row_a_clip(tmp_path: Path) -> None:
    clips = [numbered(12), numbered(3, 64, 32)]
    sheet = contact_sheet(clips, ["first " * 200, "second"], columns=4, height=48)
    row = sheet.shape[0] // 2
    middle = sheet[row - 4 - 24]
    shown = [int(level) for level in np.unique(middle) if level != 255]
    assert shown == [30 + 6 * k for k in (0, 4, 7, 11)]
    assert (sheet[:16] < 100).any()
    with pytest.raises(ValueError, match="2 clips and 1 captions"):
        contact_sheet(clips, ["first"])


def test_the_same_frames_give_the_same_file() -> None:
    # Of small pictures and hard cuts an encoder's lookahead made other files now and then.
    noise = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 3), np.uint8)
    frames = noise.repeat(8, 1).repeat(8, 2)
    files = {encode(frames, "x.mp4", fps=8) for _ in range(20)}
    assert len(files) == 1
