"""The commands that make clips: generate, and the tasks that begin with a file."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from etils import epath

from sora_jax.cli.mesh import MeshFlags

if TYPE_CHECKING:
    from sora_jax import Pipeline
    from sora_jax.generation.clip import Clip

log = logging.getLogger("sora_jax")

Prompt = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")]
Image = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
Video = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]


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
        from sora_jax.generation.model import GUIDANCE

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFlags(Flags):
    """What the tasks take that begin with a file."""

    height: int | None = None
    """Pixels that the file is fitted into, its aspect ratio kept; by default its own size."""
    width: int | None = None
    """The same."""
    held: float = 0.0
    """The diffusion time at which the model is shown what is given; 0.02 or so frees movement."""
    count: int = 1
    """How many clips, each of its own seed."""

    def settings(self, *, between: bool = False) -> dict[str, Any]:
        return super().settings(between=between) | {
            "held": self.held,
            "height": self.height,
            "width": self.width,
        }


Common = tyro.conf.OmitArgPrefixes[Flags]
Task = tyro.conf.OmitArgPrefixes[TaskFlags]


def generate(
    prompts: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT ...")
    ] = (),
    *,
    prompt_file: str | None = None,
    frames: int = 17,
    height: int = 64,
    width: int = 64,
    prototype: int | None = None,
    strength: float = 0.7,
    flags: Common = Flags(),
) -> None:
    """Generate a clip for each prompt.

    A clip longer than those that the model was trained on is made hop by hop. Written to .mp4,
    what is finished of it lies beside OUT until the end, and the same command goes on with it; no
    other format, and no other command, goes on where it was stopped.

    Args:
        prompts: what to show; several make several clips.
        prompt_file: a text file with a prompt in each line, after those of the command line.
        frames: frames of the clip; 1 makes an image.
        height: pixels; any number.
        width: pixels; any number.
        prototype: make the clip so many times smaller first, which is quick, and then refine that.
        strength: how far the prototype is taken apart again, 0 to 1.
    """
    texts = [*prompts, *(_lines(prompt_file) if prompt_file else ())]
    if not texts:
        raise ValueError("there is no prompt; give one, or --prompt-file with one in each line")
    if prototype is not None and prototype < 2:
        raise ValueError(f"--prototype {prototype}: give 2 or more, how many times smaller it is")
    paths = _numbered(flags.out, len(texts))
    pipeline = _loaded(flags, paths, frames=frames)
    whole: dict[str, Any] = {"frames": frames, "height": height, "width": width, **flags.settings()}

    def made(number: int) -> Clip | None:
        text, path = texts[number], paths[number]
        settings: dict[str, Any] = whole | {"seed": flags.seed + number}
        if prototype is not None:
            return _prototyped(pipeline, text, path, settings, prototype, strength)
        if frames > (pipeline.domain.frames or frames) and path.lower().endswith(".mp4"):
            pipeline.generate_to(path, text, **settings)
            return None
        return pipeline.generate(text, **settings)

    _write(made, paths, texts, sheet=flags.sheet)


def _prototyped(
    pipeline: Pipeline, text: str, path: str, settings: dict[str, Any], times: int, strength: float
) -> Clip:
    sides = ("height", "width")
    small = settings | {side: max(1, settings[side] // times) for side in sides}
    clip = pipeline.generate(text, **small)
    stem, _, ending = path.rpartition(".")
    first = f"{stem}.prototype.{ending}"
    clip.save(first)
    print(first)
    finer = {name: value for name, value in settings.items() if name != "frames"}
    return pipeline.refine(clip, text, strength=strength, **finer)


def image(
    prompt: Prompt,
    *,
    height: int = 64,
    width: int = 64,
    flags: Common = Flags(out="image.png"),
) -> None:
    """Generate an image.

    Args:
        prompt: what to show.
        height: pixels; any number.
        width: pixels; any number.
    """
    generate((prompt,), frames=1, height=height, width=width, flags=flags)


def animate(
    image: Image, prompt: Prompt = "", *, frames: int = 17, flags: Task = TaskFlags()
) -> None:
    """Make a clip that begins with an image.

    Args:
        image: the file; of a video its first frame.
        prompt: what is to happen.
        frames: of the clip.
    """
    _run(flags, prompt, lambda p, s: p.animate(image, prompt, frames=frames, **s), frames=frames)


def extend(
    video: Video,
    prompt: Prompt = "",
    *,
    direction: Literal["forward", "backward"] = "forward",
    frames: int = 16,
    flags: Task = TaskFlags(),
) -> None:
    """Add frames after a clip, or before it; with --count 3 --direction backward, three clips of
    different beginnings and one ending.

    Args:
        video: the file.
        prompt: what the clip shows.
        direction: where the new frames come.
        frames: how many.
    """
    _run(
        flags,
        prompt,
        lambda p, s: p.extend(video, prompt, frames=frames, direction=direction, **s),
    )


def loop(
    video: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")] = None,
    *,
    prompt: str = "",
    frames: int = 16,
    flags: Task = TaskFlags(),
) -> None:
    """Make a clip whose end leads into its beginning: from a clip, or from a prompt alone.

    Up to three frames at the end of the clip, which fill no latent, are made anew.

    Args:
        video: the file.
        prompt: what is shown.
        frames: that lead from the end of the clip back to its beginning; without a clip, all.
    """
    if video is None and not prompt:
        raise ValueError("there is nothing to loop; give a VIDEO or a --prompt")
    _run(flags, prompt, lambda p, s: p.loop(video, prompt=prompt, frames=frames, **s), between=True)


def edit(
    video: Video,
    prompt: Prompt,
    *,
    strength: tuple[float, ...] = (0.6,),
    flags: Task = TaskFlags(),
) -> None:
    """Change a clip towards a prompt.

    Args:
        video: the file.
        prompt: what it is to show.
        strength: 0 (as it is) to 1 (nothing of it); several are spread evenly over the clip.
    """
    _run(flags, prompt, lambda p, s: p.edit(video, prompt, strength=strength, **s), like=video)


def connect(
    first: Video, second: Video, prompt: Prompt = "", *, frames: int = 16, flags: Task = TaskFlags()
) -> None:
    """Lead from one clip over to another.

    Args:
        first: the file of the first clip.
        second: the file of the second, which is made the size of the first.
        prompt: what is to happen between them.
        frames: between them.
    """
    _run(
        flags,
        prompt,
        lambda p, s: p.connect(first, second, prompt=prompt, frames=frames, **s),
        between=True,
    )


def retake(
    video: Video,
    prompt: Prompt,
    *,
    span: tuple[int, int] | None = None,
    box: tuple[int, int, int, int] | None = None,
    flags: Task = TaskFlags(),
) -> None:
    """Make a part of a clip anew.

    Args:
        video: the file.
        prompt: what it is to show.
        span: the first frame of that part, and the one after its last, from 0 on and at the rate of
            the model, which may not be that of the file. Enlarged to whole latents.
        box: its top, left, bottom and right in pixels, after the file is fitted into --height and
            --width. Enlarged to whole latents.
    """
    _run(
        flags,
        prompt,
        lambda p, s: p.retake(video, prompt, span=span, box=box, **s),
        like=video,
    )


def _run(
    flags: TaskFlags,
    prompt: str,
    task: Callable[[Pipeline, Any], Clip],
    *,
    frames: int = 2,
    like: str | None = None,
    between: bool = False,
) -> None:
    """Runs a task for each seed.

    frames   how many its clips have: 2 for any number above 1.
    like     the file of which they have as many instead.
    between  whether it fills a gap between given frames.
    """
    if flags.count < 1:
        raise ValueError(f"--count {flags.count}: give 1 or more")
    paths = _numbered(flags.out, flags.count)
    pipeline = _loaded(flags, paths, frames=frames, like=like)

    def made(number: int) -> Clip:
        return task(pipeline, flags.settings(between=between) | {"seed": flags.seed + number})

    _write(made, paths, [prompt] * len(paths), sheet=flags.sheet)


def _loaded(flags: Flags, paths: list[str], *, frames: int, like: str | None = None) -> Pipeline:
    """The pipeline, after a look at where results of so many frames, or of as many as the file
    `like` has, are to be written."""
    import sora_jax
    from sora_jax.data.video import check_output, probe
    from sora_jax.parallel.mesh import Mesh
    from sora_jax.training.programs import keep_in, of_user

    for path in paths:
        # How many frames a file has is known when the model's rate is; one suits any format.
        check_output(path, frames=1 if like else frames)
    known = probe(like) if like else None
    if flags.sheet:
        check_output(flags.sheet, frames=1)
    mesh = dataclasses.replace(Mesh(), **flags.axes) if flags.axes else None
    keep_in(of_user(), least=0.0)
    pipeline = sora_jax.load(flags.checkpoint, mesh=mesh)
    if known:
        frames = known.frames_at(pipeline.fps if known.fps else None)
    check_output(paths[0], frames=frames, fps=pipeline.fps)
    if flags.checkpoint is None:
        log.info("%s makes it; it can be asked for: %s", pipeline.source, pipeline.domain.about)
    return pipeline


def _write(
    made: Callable[[int], Clip | None], paths: list[str], texts: list[str], *, sheet: str | None
) -> None:
    """Writes clips one by one, each on disk before the next is begun, and a sheet of all.

    `made` gives the clip of a number, or None if it has written it itself.
    """
    from sora_jax.data.video import contact_sheet, read_clip, write_video

    shown = []
    for number, path in enumerate(paths):
        if clip := made(number):
            clip.save(path)
        print(path)
        if sheet:
            shown.append(clip.frames if clip else read_clip(path))
    if sheet:
        write_video(sheet, contact_sheet(shown, texts)[None], fps=1)
        print(sheet)


def _lines(path: str) -> list[str]:
    return [line for line in epath.Path(path).read_text().splitlines() if line.strip()]


def _numbered(out: str, count: int) -> list[str]:
    stem, dot, ending = out.rpartition(".")
    if not dot or "/" in ending:
        raise ValueError(f"--out {out} has no ending; give one of .mp4, .gif, .png")
    return [out] if count == 1 else [f"{stem}_{n}.{ending}" for n in range(count)]
