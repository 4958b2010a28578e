"""The commands that make clips of prompts alone: generate and image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import tyro
from etils import epath

from sora_jax.arrays import Size
from sora_jax.cli.clips import Flags, Prompt, loaded, numbered, written

if TYPE_CHECKING:
    from sora_jax import Pipeline
    from sora_jax.generation.clip import Clip

Common = tyro.conf.OmitArgPrefixes[Flags]
FLAGS, OF_IMAGE = Flags(), Flags(out="image.png")
STRENGTH = 0.7
"""To which a prototype is taken apart again."""


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
    strength: float | None = None,
    flags: Common = FLAGS,
) -> None:
    """Generate a clip for each prompt.

    A clip longer than those that the model was trained on is made hop by hop. Written to .mp4,
    what is finished of it lies beside OUT until the end, and the same command goes on with it, and
    with the first of several clips that is not finished. No other format and no other command goes
    on where it was stopped, and none with --prototype, which holds all frames in memory.

    Args:
        prompts: what to show; several make several clips.
        prompt_file: a text file with a prompt in each line, after those of the command line.
        frames: frames of the clip; 1 makes an image.
        height: pixels; any number.
        width: pixels; any number.
        prototype: make it so many times smaller first, which is quick, and then refine that.
        strength: how far the prototype is taken apart again, 0 to 1; by default 0.7.
    """
    from sora_jax.generation.settings import strengths

    texts = [*prompts, *(_lines(prompt_file) if prompt_file else ())]
    if not texts:
        raise ValueError("there is no prompt; give one, or --prompt-file with one in each line")
    if prototype is not None and prototype < 2:
        raise ValueError(f"--prototype {prototype}: give 2 or more, how many times smaller it is")
    if strength is not None:
        strengths(strength)
    if prototype is None and strength is not None:
        raise ValueError("--strength is that of a prototype: give --prototype as well, or neither")
    paths = numbered(flags.out, len(texts))
    pipeline = loaded(flags, paths, frames=frames)
    whole: dict[str, Any] = {"frames": frames, "height": height, "width": width, **flags.settings()}
    strength = STRENGTH if strength is None else strength
    begun = [n for n, path in enumerate(paths) if epath.Path(f"{path}.parts").exists()]
    if prototype is not None:
        # Now, and not after the prototype has been made; the memory that it takes is told, too.
        size = Size(frames, height, width)
        pipeline.check_refine(texts[0], size, strength=strength, **flags.settings())

    def made(number: int) -> Clip | None:
        text, path = texts[number], paths[number]
        settings: dict[str, Any] = whole | {"seed": flags.seed + number}
        if prototype is not None:
            return _prototyped(pipeline, text, path, settings, prototype, strength)
        if frames > (pipeline.domain.frames or frames) and path.lower().endswith(".mp4"):
            # One that was stopped comes after those that it had finished.
            pipeline.generate_to(path, text, again=number >= max(begun, default=0), **settings)
            return None
        return pipeline.generate(text, **settings)

    written(made, paths, texts, sheet=flags.sheet)


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
    flags: Common = OF_IMAGE,
) -> None:
    """Generate an image.

    Args:
        prompt: what to show.
        height: pixels; any number.
        width: pixels; any number.
    """
    generate((prompt,), frames=1, height=height, width=width, flags=flags)


def _lines(path: str) -> list[str]:
    return [line for line in epath.Path(path).read_text().splitlines() if line.strip()]
