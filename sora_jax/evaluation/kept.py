"""The clips that a model made for a suite, kept in a folder.

A measurement that was stopped goes on from them, and another measure reads them again. A file's
name holds a digest of what its clips are of, so that those of other weights, prompts or settings
are never taken for them. It does not know the code: where that samples otherwise than before, the
folder is to be removed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from sora_jax.data.worlds.world import Frames
from sora_jax.files import write_whole

log = logging.getLogger("sora_jax")


def kept(
    folder: str | os.PathLike[str],
    name: str,
    about: dict[str, Any],
    make: Callable[[], list[Frames]],
) -> list[Frames]:
    """Returns the clips that lie in a folder, or makes and keeps them.

    name   with which the file begins.
    about  what the clips are of, as JSON has it.

    Raises ValueError for a file that cannot be read.
    """
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    path = epath.Path(folder) / f"{name}-{digest}.npz"
    if path.exists():
        log.info("%s: made before, read again", path)
        return _read(path)
    clips = make()
    data = io.BytesIO()
    np.savez_compressed(data, clips=np.stack(clips))
    write_whole(path, data.getvalue())
    return clips


def check_keep(folder: str | os.PathLike[str]) -> None:
    """Makes the folder, before the work that would else be lost. Raises ValueError where it cannot
    be one."""
    try:
        epath.Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"keep={os.fspath(folder)}: no folder can be made there ({error}); name another"
        ) from error


def _read(path: epath.Path) -> list[Frames]:
    try:
        with path.open("rb") as file, np.load(file) as found:
            return list(found["clips"])
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it") from error
