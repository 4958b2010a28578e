"""The `sora-jax` command: each subcommand a thin function over the package.

sora-jax train EXPERIMENT.py [--out DIR] [--smoke] [--any.field value ...]
sora-jax generate PROMPT ... [--checkpoint DIR] --out clip.mp4
sora-jax evaluate [CHECKPOINT] [FILES ...]
sora-jax encode AUTOENCODER DATA --out DIR
sora-jax freeze RUN --about TEXT --out DIR
sora-jax describe DATA-OR-EXPERIMENT
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from etils import epath
from rich.console import Console

from sora_jax import config
from sora_jax.arrays import Size

log = logging.getLogger("sora_jax")

TRACEBACK = "SORA_JAX_TRACEBACK"
"""Environment variable that, when set, lets every error end with its traceback."""

Names = tyro.conf.Positional[tuple[str, ...]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; an error that a user can mend ends it with one message and code 1."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("sora_jax").setLevel(logging.INFO)
    try:
        if given[:1] == ["train"]:
            train(given[1:])
        else:
            tyro.extras.subcommand_cli_from_dict(
                {f.__name__: f for f in (train, generate, evaluate, encode, freeze, describe)},
                prog="sora-jax",
                description=__doc__,
                args=given,
            )
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError, *_errors()) as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"sora-jax: {error}", file=sys.stderr)
        sys.exit(1)


def _errors() -> tuple[type[Exception], ...]:
    from sora_jax.checkpoint import CheckpointError
    from sora_jax.data.video import VideoError

    return (CheckpointError, VideoError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Trains the stages of an experiment file in order, skipping those that are done.

    Further flags change the experiment's own fields: `--objective.model.depth 4`, or
    `--STAGE.objective.model.depth 4` where it has several stages.
    """

    experiment: tyro.conf.Positional[str]
    """A Python file that binds `experiment` (and `smoke`)."""
    out: str | None = None
    """The run's folder, local or gs://; by default runs/ and the file's name."""
    smoke: bool = False
    """Run the file's tiny twin."""
    until: str | None = None
    """Name of the last stage to run."""


def train(arguments: Annotated[Sequence[str], tyro.conf.arg(metavar="...")] = ()) -> None:
    """Train an experiment file: `sora-jax train FILE --help` lists all of its numbers."""
    from sora_jax.stages import run_stages

    asked = [flag for flag in arguments if flag in ("-h", "--help")]
    rest = [flag for flag in arguments if flag not in ("-h", "--help")]
    if asked and not rest:
        tyro.cli(TrainFlags, prog="sora-jax train", args=["--help"])
    flags, unknown = tyro.cli(
        TrainFlags, prog="sora-jax train", args=rest, return_unknown_args=True
    )
    stages = config.read_experiment(flags.experiment, smoke=flags.smoke)
    stages = config.override(stages, [*unknown, *asked], program="sora-jax train EXPERIMENT")
    folder = flags.out or f"runs/{Path(flags.experiment).stem}"
    run_stages(stages, folder, until=flags.until)


def generate(
    prompts: Names = (),
    *,
    checkpoint: str | None = None,
    prompt_file: str | None = None,
    frames: int = 17,
    height: int = 64,
    width: int = 64,
    steps: int = 50,
    guidance: float = 3.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    guidance_rescale: float = 0.0,
    negative: str = "",
    seed: int = 0,
    out: str = "clip.mp4",
    sheet: str | None = None,
) -> None:
    """Generate a clip for each prompt.

    Args:
        prompts: what to show; several make several clips.
        checkpoint: the folder of a run or of a frozen generator, local or gs://; by default the
            model that comes with the package.
        prompt_file: a text file with a prompt in each line, after those of the command line.
        frames: frames of the clip; 1 makes an image.
        height: pixels; any number.
        width: pixels; any number.
        steps: steps of the sampler.
        guidance: how strongly the prompt is followed; 1 is not beyond what was learnt.
        guidance_interval: diffusion times (0 clean, 1 noise) between which that holds.
        guidance_rescale: 0 to 1, how far the contrast that guidance adds is taken back.
        negative: what to be guided away from.
        seed: the same seed gives the same clip; further prompts take the numbers that follow.
        out: .mp4, .gif or, for one frame, .png; of several clips, numbered before the ending.
        sheet: a .png to draw frames of all clips into, under their prompts.
    """
    import sora_jax
    from sora_jax.data.video import check_output, contact_sheet, write_video
    from sora_jax.diffusion.guidance import Guidance

    texts = [*prompts, *(_lines(prompt_file) if prompt_file else ())]
    if not texts:
        raise ValueError("there is no prompt; give one, or --prompt-file with one in each line")
    paths = _numbered(out, len(texts))
    for path in paths:
        check_output(path, frames=frames)
    if sheet:
        check_output(sheet, frames=1)
    pipeline = sora_jax.load(checkpoint)
    check_output(paths[0], frames=frames, fps=pipeline.fps)
    if checkpoint is None:
        log.info("%s makes it; it can be asked for: %s", pipeline.source, pipeline.domain.about)
    clips = []
    # One at a time, so that each clip is on disk before the next is begun.
    for number, (text, path) in enumerate(zip(texts, paths, strict=True)):
        clip = pipeline.generate(
            text,
            frames=frames,
            height=height,
            width=width,
            steps=steps,
            guidance=Guidance(scale=guidance, interval=guidance_interval, rescale=guidance_rescale),
            negative=negative,
            seed=seed + number,
            progress=True,
        )
        clip.save(path)
        print(path)
        clips.append(clip.frames)
    if sheet:
        write_video(sheet, contact_sheet(clips, texts)[None], fps=1)
        print(sheet)


def _lines(path: str) -> list[str]:
    return [line for line in epath.Path(path).read_text().splitlines() if line.strip()]


def _numbered(out: str, count: int) -> list[str]:
    stem, dot, ending = out.rpartition(".")
    if not dot or "/" in ending:
        raise ValueError(f"--out {out} has no ending; give one of .mp4, .gif, .png")
    return [out] if count == 1 else [f"{stem}_{n}.{ending}" for n in range(count)]


def evaluate(
    checkpoint: tyro.conf.Positional[str | None] = None,
    files: Names = (),
    *,
    frames: int | None = None,
    longest: int | None = None,
    suite: str | None = None,
    samples: int | None = None,
    size: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int | None = None,
    json_out: str | None = None,
    markdown_out: str | None = None,
    plot_out: str | None = None,
) -> None:
    """Measure a checkpoint: reconstruction of given files, and the loss on a grid of (size, sigma).

    With --suite, what it can do: clips of the procedural worlds are asked for by their captions,
    and their state is read back from the pixels.

    Args:
        checkpoint: a run of an autoencoder or of a transformer, local or gs://; for suites also a
            frozen generator, and by default the model that comes with the package.
        files: videos and images; without any, the loss is taken over the run's own training data.
        frames: how many of each file's first frames are taken (rounded down to 1 + 4k); 17.
        longest: the longer side that larger files are reduced to, in pixels.
        suite: names of suites with commas between, or all: text, text_held_out, objects, falling,
            permanence, shots, geometry, painting, eating, shattering, digital.
        samples: clips of each suite; 48.
        size: FRAMESxHEIGHTxWIDTH of the clips of suites; each suite's own, 17x64x64.
        steps: steps of the sampler, for suites; 25.
        guidance: how strongly captions are followed, for suites; 3.
        batch: clips sampled together, for suites; 16.
        json_out: a file to write the table to as JSON.
        markdown_out: a file to write the table of suites to as Markdown.
        plot_out: a PNG to draw the table of suites into.
    """
    from sora_jax.data.video import check_folder, check_output
    from sora_jax.evaluation.checkpoint import evaluate_checkpoint, evaluate_suites
    from sora_jax.evaluation.plots import draw_capabilities, matplotlib

    of_files = {"frames": frames, "longest": longest}
    of_suites = {
        "samples": samples,
        "size": None if size is None else _size(size),
        "steps": steps,
        "guidance": guidance,
        "batch": batch,
    }
    outputs = {"markdown_out": markdown_out, "plot_out": plot_out}
    unused = of_suites | outputs if suite is None else of_files
    for name, value in unused.items():
        if value is not None:
            what = "suites; give --suite as well" if suite is None else "files, not of suites"
            raise ValueError(f"--{name.replace('_', '-')} is of {what}")
    if suite is not None and files:
        raise ValueError("suites ask for clips of their own worlds; give FILES or --suite")
    # Before the work whose result would else be lost.
    for path in (json_out, markdown_out):
        if path:
            check_folder(path)
    if plot_out:
        check_output(plot_out, frames=1)
        matplotlib()
    given = {k: v for k, v in (of_files | of_suites).items() if v is not None}
    if suite is None:
        if checkpoint is None:
            raise ValueError("there is no CHECKPOINT; give one, or --suite")
        report: Any = evaluate_checkpoint(checkpoint, files, **given)
    else:
        shown = Console().is_terminal
        report = evaluate_suites(checkpoint, suite.split(","), progress=shown, **given)
    for table in report.tables():
        Console().print(table)
    if json_out:
        epath.Path(json_out).write_text(report.to_json())
    if markdown_out:
        epath.Path(markdown_out).write_text(report.markdown() + "\n")
    if plot_out:
        draw_capabilities(report, plot_out)


def _size(text: str) -> Size:
    numbers = text.split("x")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"--size {text}: give FRAMESxHEIGHTxWIDTH, such as 17x64x64")
    return Size(*map(int, numbers))


def encode(
    autoencoder: tyro.conf.Positional[str],
    data: tyro.conf.Positional[str],
    *,
    out: str,
    tokens: int = 4096,
    fps: float | None = None,
) -> None:
    """Encode clips into latents for the training of a transformer.

    Args:
        autoencoder: the run of an autoencoder, or a frozen one.
        data: a folder (local or gs://) or the name of a tensorflow-datasets set.
        out: the folder to write.
        tokens: the token budget of a batch.
        fps: frames per second to read at; by default each clip's own.
    """
    from sora_jax.stages import encode_folder

    encode_folder(autoencoder, data, out=out, tokens=tokens, fps=fps)


def freeze(run: tyro.conf.Positional[str], *, about: str, out: str) -> None:
    """Make a small folder of a trained generator, to be given to others.

    Args:
        run: the run, its stage or one checkpoint of it, with the data that it was trained on.
        about: what the model can be asked for; prompts that go beyond are answered with it.
        out: the folder to write; --checkpoint takes it.
    """
    from sora_jax.generation.loading import freeze

    freeze(run, out, about=about)
    print(out)


def describe(
    what: tyro.conf.Positional[str],
    *,
    smoke: bool = False,
    tokens: int = 4096,
    fps: float | None = None,
    json_out: str | None = None,
    sheet: str | None = None,
) -> None:
    """Tell, before any training, what would be trained on, or what an experiment is.

    Args:
        what: an experiment (.py), a folder (local or gs://), `worlds`, or the name of a
            tensorflow-datasets set.
        smoke: describe the experiment's tiny twin.
        tokens: the token budget of a batch, for data.
        fps: frames per second that data is read at; by default each clip's own.
        json_out: a file to write the same to as JSON.
        sheet: a PNG to draw some of the clips into, evenly chosen by name.
    """
    from sora_jax.data.video import check_folder, check_output
    from sora_jax.description import describe_data, describe_experiment, draw_sheet

    if json_out:
        check_folder(json_out)

    if what.endswith(".py"):
        report: Any = describe_experiment(what, smoke=smoke)
        if sheet:
            raise ValueError(f"--sheet draws the clips of data, and {what} is an experiment")
    else:
        if sheet:
            check_output(sheet, frames=1)
        report = describe_data(what, tokens=tokens, fps=fps)
    print(report.render())
    if json_out:
        epath.Path(json_out).write_text(report.to_json())
    if not report.usable:
        raise ValueError(f"{what} has no usable clip")
    if sheet:
        draw_sheet(what, sheet, fps=fps)
        print(sheet)
