"""What every task returns: frames, their rate, and how they came to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from etils import epath
from jaxtyping import UInt8
from numpy import ndarray

from sora_jax.data.video import write_video


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A generated video, or an image as a video of one frame.

    frames    uint8 [frames, height, width, 3].
    fps       frames per second.
    metadata  prompt, seed, settings and version, as text; written into the file by `save`.
    """

    frames: UInt8[ndarray, "frames height width 3"]
    fps: float
    metadata: Mapping[str, str]

    def save(self, path: epath.PathLike) -> None:
        """Writes .mp4, .gif, or .png for one frame; the name's ending says which.

        Raises VideoError, naming the path, if it cannot be written.
        """
        write_video(path, self.frames, fps=self.fps, metadata=self.metadata)
