"""What the commands that make clips share: flags, the pipeline, and where clips are written."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from etils import epath

from sora_jax.cli.mesh import MeshFlags

if TYPE_CHECKING:
    from sora_jax import Pipeline
    from sora_jax.generation.clip import Clip

log = logging.getLogger("sora_jax")

SHOWN = 6
"""Frames of a clip in a sheet."""

Prompt = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(MeshFlags):
    """What all of these commands take. On several devices name the axes of a mesh."""

    checkpoint: str | None = None
    """The folder of a run or of a frozen generator, local or gs://; by default the model that comes
    with the package."""
    steps: int = 50
    """Steps of the sampler."""
    guidance: float | None = None
    """How strongly the prompt is followed; 1 is not beyond what was learnt. By default 3."""
    guidance_given: float | None = None
    """The same for what is given. By default 1, for loop and connect 1.5."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Diffusion times (0 clean, 1 noise) between which guidance holds."""
    guidance_rescale: float = 0.0
    """0 to 1, how far the contrast that guidance adds is taken back."""
    negative: str = ""
    """What to be guided away from."""
    seed: int = 0
    """The same seed gives the same clip; further clips take the numbers that follow."""
    out: str = "clip.mp4"
    """.mp4, .gif or, for one frame, .png; of several clips, numbered before the ending."""
    sheet: str | None = None
    """A .png to draw frames of all clips into, under their prompts."""

    def settings(self, *, between: bool = False) -> dict[str, Any]:
        """The settings that the pipeline takes, but for the seed.

        `between` says that the task fills a gap between given frames, which has a guidance of its
        own.
        """
        from sora_jax.generation.gaps import BETWEEN
        from sora_jax.generation.settings import GUIDANCE

        own = BETWEEN if between else GUIDANCE
        guidance = dataclasses.replace(
            own,
            scale=own.scale if self.guidance is None else self.guidance,
            given=own.given if self.guidance_given is None else self.guidance_given,
            interval=self.guidance_interval,
            rescale=self.guidance_rescale,
        )
        return {
            "steps": self.steps,
            "guidance": guidance,
            "negative": self.negative,
            "progress": True,
        }


def loaded(flags: Flags, paths: list[str], *, frames: int, like: str | None = None) -> Pipeline:
    """The pipeline, after a look at the settings, and at where results of so many frames, or of as
    many as the file `like` has, are to be written."""
    import sora_jax
    from sora_jax.data.video import check_output, probe
    from sora_jax.generation.settings import Sampling, Settings
    from sora_jax.parallel.mesh import Mesh
    from sora_jax.training.programs import keep_in, of_user

    settings: Any = {k: v for k, v in flags.settings().items() if k in Settings.__annotations__}
    # Of the first clip and of the last.
    for seed in (flags.seed, flags.seed + len(paths) - 1):
        Sampling.of(**settings, seed=seed)
    for path in paths:
        # How many frames a file has is known when the model's rate is; one suits any format.
        check_output(path, frames=1 if like else frames)
    known = probe(like) if like else None
    if flags.sheet:
        check_output(flags.sheet, frames=1)
        sheet = epath.Path(flags.sheet).resolve()
        if any(epath.Path(path).resolve() == sheet for path in paths):
            raise ValueError(f"--sheet {flags.sheet} is a clip's own file: name another")
    mesh = dataclasses.replace(Mesh(), **flags.axes) if flags.axes else None
    keep_in(of_user(), least=0.0)
    pipeline = sora_jax.load(flags.checkpoint, mesh=mesh)
    if known:
        frames = known.frames_at(pipeline.fps if known.fps else None)
    check_output(paths[0], frames=frames, fps=pipeline.fps)
    if flags.checkpoint is None:
        log.info("%s makes it; it can be asked for: %s", pipeline.source, pipeline.domain.about)
    return pipeline


def written(
    made: Callable[[int], Clip | None], paths: list[str], texts: list[str], *, sheet: str | None
) -> None:
    """Writes clips one by one, each on disk before the next is begun, and a sheet of all.

    `made` gives the clip of a number, or None if it has written it itself.
    """
    from sora_jax.data.video import contact_sheet, write_video

    shown = []
    for number, path in enumerate(paths):
        if clip := made(number):
            clip.save(path)
        print(path)
        if sheet:
            shown.append(clip.frames if clip else _glimpsed(path))
    if sheet:
        write_video(sheet, contact_sheet(shown, texts, columns=SHOWN)[None], fps=1)
        print(sheet)


def _glimpsed(path: str) -> Any:
    """The frames of a long file that a sheet shows, and no others."""
    from sora_jax.data.video import probe, read_at

    known = probe(path)
    last = (known.frames - 1) / known.fps if known.fps else 0.0
    return read_at(path, [last * number / (SHOWN - 1) for number in range(SHOWN)], known=known)


def numbered(out: str, count: int) -> list[str]:
    stem, dot, ending = out.rpartition(".")
    if not dot or "/" in ending:
        raise ValueError(f"--out {out} has no ending; give one of .mp4, .gif, .png")
    return [out] if count == 1 else [f"{stem}_{n}.{ending}" for n in range(count)]
