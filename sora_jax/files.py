"""Where files lie, and files that appear whole or not at all, whenever their writer is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether it lies elsewhere, as on gs://."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[epath.Path]:
    """Where to write what is to appear at `path`, local or gs://, when it is complete."""
    if is_remote(path):
        # An object in a bucket appears when its upload is complete.
        yield epath.Path(path)
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield epath.Path(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    with whole(path) as target:
        target.write_bytes(data)
