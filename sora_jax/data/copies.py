"""Local copies of remote files, for readers that know local ones only (array_record)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from etils import epath

from sora_jax.data.plan import PlanError
from sora_jax.files import is_remote


def local_copies(files: Mapping[epath.Path, str]) -> tuple[str, ...]:
    """Paths of files with their digests: themselves, or local copies that are made once.

    Raises PlanError, before it copies anything, where there is no room for all.
    """
    home = Path(tempfile.gettempdir()) / "sora_jax_latents"
    copies = {path: home / f"{digest}.array_record" for path, digest in files.items()}
    missing = {p: copy for p, copy in copies.items() if is_remote(p) and not copy.exists()}
    if missing:
        home.mkdir(parents=True, exist_ok=True)
        _clear_away(home)
        size, free = sum(p.stat().length for p in missing), shutil.disk_usage(home).free
        if size > free:
            raise PlanError(
                f"{len(missing)} files of {next(iter(missing)).parent} have {size / 2**30:.1f} "
                f"GiB, and {home}, where they are copied to be read, has room for "
                f"{free / 2**30:.1f}: set TMPDIR to a folder on a larger disk"
            )
    for path, copy in missing.items():
        partial = copy.with_name(f"{copy.name}.{os.getpid()}")
        path.copy(partial, overwrite=True)
        partial.replace(copy)
    return tuple(str(copies[path]) if is_remote(path) else os.fspath(path) for path in files)


def _clear_away(home: Path) -> None:
    """Removes what processes that are gone have copied in part."""
    for partial in home.glob("*.array_record.*"):
        try:
            os.kill(int(partial.suffix[1:]), 0)
        except ProcessLookupError:
            partial.unlink(missing_ok=True)
        except OSError:
            continue  # of another user
