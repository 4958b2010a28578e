"""Fixtures of the data tests."""

from __future__ import annotations

from typing import Any, ClassVar

import fsspec
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem


class _Bucket(MemoryFileSystem):
    """Objects in memory under gs:// names; like the real thing it lists them without the gs://."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("gs://"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty gs:// folder, reached through the real epath and fsspec."""
    objects = _Bucket(skip_instance_cache=True)
    objects.store.clear()
    objects.pseudo_dirs[:] = [""]
    objects.mkdir("gs://bucket/clips")

    def filesystem(*_: object, **__: object) -> fsspec.AbstractFileSystem:
        return objects

    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", filesystem)
    return "gs://bucket/clips"
