"""A folder of videos and images as a source of clips."""

from __future__ import annotations

import dataclasses
import functools
import os
import posixpath
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from etils import epath
from jaxtyping import UInt8

from sora_jax.data import sidecars, video
from sora_jax.data.datasets import Broken, Record

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogg", ".ogv", ".webm")
IMAGE_SUFFIXES = (".gif", ".jpeg", ".jpg", ".png", ".webp")

# Named in the report rather than passed over, since someone may wonder where they are.
_FOREIGN_VIDEO = (".3gp", ".asf", ".flv", ".m2ts", ".mts", ".mxf", ".ts", ".vob", ".wmv", ".y4m")
_FOREIGN_IMAGE = (".avif", ".bmp", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".tif", ".tiff")

# Probing waits for the disk or the network most of the time.
_THREADS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder:
    """All videos and images below `path`, local or gs://, with captions beside them.

    Which caption files there may be is said in `sidecars.py`. Files and folders whose names begin
    with a dot, and files that are neither media nor captions, are passed over.
    """

    path: str

    def open(self) -> OpenedFolder:
        """Lists the folder and probes every file. Raises NotADirectoryError if there is none."""
        root = epath.Path(self.path).expanduser()
        if not root.is_dir():
            raise NotADirectoryError(f"{self.path}: there is no such folder")
        names = _names(root)
        listing, broken = sidecars.listed(root, names)
        job = functools.partial(_examined, root, names=frozenset(names), listing=listing)
        clips = [name for name in names if _suffix(name) in VIDEO_SUFFIXES + IMAGE_SUFFIXES]
        with ThreadPoolExecutor(_THREADS) as pool:
            examined = list(pool.map(job, clips))
        broken += [
            _foreign(name) for name in names if _suffix(name) in _FOREIGN_VIDEO + _FOREIGN_IMAGE
        ]
        broken += [each for _, _, found in examined for each in found]
        usable = [(record, known) for record, known, _ in examined if record and known]
        return OpenedFolder(
            path=os.fspath(root),
            records=tuple(record for record, _ in usable),
            broken=tuple(sorted(broken, key=lambda each: (each.name, each.reason))),
            probes=tuple(known for _, known in usable),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedFolder:
    """A folder whose files have been probed. See `datasets.OpenedSource`."""

    path: str
    records: tuple[Record, ...]
    broken: tuple[Broken, ...]
    probes: tuple[video.Probe, ...]

    def read(
        self, index: int, start: int, count: int, *, fps: video.Rate | None = None
    ) -> UInt8[np.ndarray, "frames height width 3"]:
        """Up to `count` frames from `start` on, at the rate `fps`. See `datasets.OpenedSource`."""
        file = epath.Path(self.path) / self.records[index].name
        known = self.probes[index]
        return video.read_clip(os.fspath(file), start, count=count, fps=fps, known=known)


def _names(root: epath.Path) -> list[str]:
    """The relative paths of all files below a folder, sorted. Links to folders are not followed."""
    names = []
    top = None
    for folder, _, files in root.walk():
        # Walking through a bucket may yield paths without gs://, so the first is what counts.
        top = top or os.fspath(folder)
        inside = posixpath.relpath(os.fspath(folder), top)
        names += [posixpath.normpath(posixpath.join(inside, file)) for file in files]
    return sorted(name for name in names if not ("/" + name).count("/."))


def _examined(
    root: epath.Path,
    name: str,
    *,
    names: frozenset[str],
    listing: Mapping[str, sidecars.Captions],
) -> tuple[Record | None, video.Probe | None, Iterable[Broken]]:
    """The record of one file and what is wrong with it or its captions."""
    try:
        known = video.probe(os.fspath(root / name))
    except video.VideoError as error:
        return None, None, [Broken(name=name, reason=error.reason)]
    captions, broken = sidecars.beside(root, name, names, listing)
    record = Record(
        name=name,
        frames=known.frames,
        height=known.height,
        width=known.width,
        fps=known.fps,
        captions=captions,
    )
    return record, known, broken


def _foreign(name: str) -> Broken:
    known = ", ".join(suffix[1:] for suffix in sorted(VIDEO_SUFFIXES + IMAGE_SUFFIXES))
    return Broken(
        name=name, reason=f"{_suffix(name)} files are not read; convert it to one of {known}"
    )


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()
