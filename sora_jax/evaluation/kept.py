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
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from sora_jax.data.worlds.world import Frames

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
    """
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    path = epath.Path(folder) / f"{name}-{digest}.npz"
    if path.exists():
        with path.open("rb") as file, np.load(file) as found:
            log.info("%s: made before, read again", path)
            return list(found["clips"])
    clips = make()
    data = io.BytesIO()
    np.savez_compressed(data, clips=np.stack(clips))
    path.parent.mkdir(parents=True, exist_ok=True)
    # A kill leaves the whole file or none.
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data.getvalue())
    temporary.rename(path)
    return clips
