"""The commands of the tasks that begin with a file; loop can do without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from etils import epath

from sora_jax.cli.clips import Flags, Prompt, loaded, numbered, written

if TYPE_CHECKING:
    from sora_jax import Pipeline
    from sora_jax.generation.clip import Clip

Image = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
Video = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFlags(Flags):
    """What the tasks take that begin with a file."""

    height: int | None = None
    """Pixels that the file is fitted into, its aspect ratio kept; by default its own size."""
    width: int | None = None
    """The same."""
    given_noise: float = 0.0
    """The diffusion time at which the model is shown what is given; 0.02 or so frees movement."""
    count: int = 1
    """How many clips, each of its own seed."""

    def settings(self, *, between: bool = False) -> dict[str, Any]:
        return super().settings(between=between) | {
            "given_noise": self.given_noise,
            "height": self.height,
            "width": self.width,
        }


Task = tyro.conf.OmitArgPrefixes[TaskFlags]


def animate(
    image: Image, prompt: Prompt = "", *, frames: int = 17, flags: Task = TaskFlags()
) -> None:
    """Make a clip that begins with an image.

    Args:
        image: the file; of a video its first frame.
        prompt: what is to happen.
        frames: of the clip.
    """
    _run(
        flags,
        prompt,
        lambda p, s: p.animate(image, prompt, frames=frames, **s),
        image,
        frames=frames,
    )


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
        video,
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
    _run(
        flags,
        prompt,
        lambda p, s: p.loop(video, prompt=prompt, frames=frames, **s),
        *([] if video is None else [video]),
        between=video is not None,
    )


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
    from sora_jax.generation.settings import strengths

    strengths(strength)
    _run(
        flags, prompt, lambda p, s: p.edit(video, prompt, strength=strength, **s), video, alike=True
    )


def connect(
    first: Video,
    second: Video,
    prompt: Prompt = "",
    *,
    frames: int = 16,
    strength: tuple[float, ...] = (0.0,),
    flags: Task = TaskFlags(),
) -> None:
    """Lead from one clip over to another.

    By default both clips go on, and one fades into the other while both move: the model makes how
    they go on, but not the transition, which is a cross-fade. --strength leaves it to the model.

    Args:
        first: the file of the first clip.
        second: the file of the second, which is made the size of the first.
        prompt: what is to happen between them.
        frames: between them.
        strength: how much of the cross-fade the model makes anew: 0 (nothing) to 1 (all); several
            are spread evenly over what lies between, so that 0 1 0 leaves its middle to the model.
    """
    from sora_jax.generation.settings import strengths

    strengths(strength)
    _run(
        flags,
        prompt,
        lambda p, s: p.connect(first, second, prompt=prompt, frames=frames, strength=strength, **s),
        first,
        second,
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
    """Make a part of a clip anew: a --span of its frames, a --box of its pictures, or both.

    Args:
        video: the file.
        prompt: what it is to show.
        span: the first frame of that part, and the one after its last, from 0 on and at the rate of
            the model, which may not be that of the file. Enlarged to whole tokens. With a box
            alone, all frames.
        box: its top, left, bottom and right in pixels, after the file is fitted into --height and
            --width. Enlarged to whole tokens. With a span alone, whole pictures.
    """
    from sora_jax.generation.part import check_part

    check_part(span, box)
    _run(
        flags,
        prompt,
        lambda p, s: p.retake(video, prompt, span=span, box=box, **s),
        video,
        alike=True,
    )


def _run(
    flags: TaskFlags,
    prompt: str,
    task: Callable[[Pipeline, Any], Clip],
    *files: str,
    frames: int = 2,
    alike: bool = False,
    between: bool = False,
) -> None:
    """Runs a task for each seed.

    files    that it is given.
    frames   how many its clips have: 2 for any number above 1.
    alike    whether they have as many as the file instead.
    between  whether it fills a gap between given frames.
    """
    from sora_jax.data.video import probe

    if flags.count < 1:
        raise ValueError(f"--count {flags.count}: give 1 or more")
    paths = numbered(flags.out, flags.count)
    for file in files:
        # Now, and not after the model has been loaded.
        probe(file)
        for path in (*paths, *([flags.sheet] if flags.sheet else [])):
            if epath.Path(path).resolve() == epath.Path(file).resolve():
                raise ValueError(
                    f"{path} is the file that is given, and would be lost: name another --out"
                )
    pipeline = loaded(flags, paths, frames=frames, like=files[0] if alike else None)

    def made(number: int) -> Clip:
        return task(pipeline, flags.settings(between=between) | {"seed": flags.seed + number})

    written(made, paths, [prompt] * len(paths), sheet=flags.sheet)
