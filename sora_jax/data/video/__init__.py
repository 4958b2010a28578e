"""Video and image files to uint8 frames and back."""

from sora_jax.data.video.media import Media, Probe, VideoError, named_errors
from sora_jax.data.video.reading import probe, read_at, read_clip
from sora_jax.data.video.sheet import contact_sheet
from sora_jax.data.video.timing import Rate, frames_at_rate
from sora_jax.data.video.writing import (
    check_folder,
    check_output,
    encode,
    read_metadata,
    write_stream,
    write_video,
)

__all__ = [
    "Media",
    "Probe",
    "Rate",
    "VideoError",
    "check_folder",
    "check_output",
    "contact_sheet",
    "encode",
    "frames_at_rate",
    "named_errors",
    "probe",
    "read_at",
    "read_clip",
    "read_metadata",
    "write_stream",
    "write_video",
]
