"""Promises of checkpoints in buckets; those in folders are kept by `training/test_loop.py`."""

from __future__ import annotations

from typing import Any

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from sora_jax.checkpoint import newest


class Bucket(MemoryFileSystem):
    """A bucket in memory, which keeps what it listed until it is told to forget, as gcsfs does."""

    protocol = "s3"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return "/" + str(path).removeprefix("s3://").strip("/")

    def ls(self, path: str, detail: bool = True, **settings: Any) -> Any:
        key = self._strip_protocol(path)
        if key not in self.dircache:
            self.dircache[key] = super().ls(path, detail=True, **settings)
        found = self.dircache[key]
        return found if detail else [entry["name"] for entry in found]

    def invalidate_cache(self, path: str | None = None) -> None:
        del path
        self.dircache.clear()


@pytest.fixture
def run() -> epath.Path:
    """A run in a bucket."""
    fsspec.register_implementation("s3", Bucket, clobber=True)
    return epath.Path("s3://bucket/run")


def write(run: epath.Path, step: int) -> None:
    folder = run / f"checkpoints/{step}"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment/metadata").write_text("{}")
    # As orbax marks what is whole.
    (folder / "commit_success.txt").write_text("")


def test_what_other_processes_have_written_to_a_bucket_is_seen(run: epath.Path) -> None:
    write(run, 2)
    assert newest(run).name == "2"
    # Another process does not change what this one keeps of the listing.
    listed = dict(Bucket().dircache)
    write(run, 4)
    Bucket().dircache.update(listed)
    assert newest(run).name == "4"
