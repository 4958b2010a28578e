"""The commands that tell what there is: evaluate, describe."""

from __future__ import annotations

import math
from typing import Any

import tyro
from etils import epath
from rich.console import Console

from sora_jax.arrays import Size


def evaluate(
    checkpoint: tyro.conf.Positional[str | None] = None,
    files: tyro.conf.Positional[tuple[str, ...]] = (),
    *,
    frames: int | None = None,
    longest: int | None = None,
    suite: str | None = None,
    samples: int | None = None,
    size: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    batch: int | None = None,
    seed: int | None = None,
    keep: str | None = None,
    json_out: str | None = None,
    markdown_out: str | None = None,
    plot_out: str | None = None,
) -> None:
    """Measure a checkpoint: reconstruction of given files, and the loss on a grid of (size, sigma).

    With --suite, what it can do: clips of the procedural worlds are asked for by their captions,
    and their state is read back from the pixels.

    Args:
        checkpoint: a run of an autoencoder or of a transformer, or a frozen generator, local or
            gs://; for suites by default the model that comes with the package.
        files: videos and images; without any, the loss is taken over the run's own training data.
        frames: how many of each file's first frames are taken (rounded down to 1 + 4k); 17.
        longest: the longer side that larger files are reduced to, in pixels.
        suite: names of suites with commas between, or all: text, text_held_out, text_described,
            objects, falling, permanence, shots, geometry, painting, eating, shattering, digital.
        samples: clips that the model makes for each suite; 48.
        size: FRAMESxHEIGHTxWIDTH of the clips of suites; each suite's own, most 17x64x64.
        steps: steps of the sampler, for suites; 25.
        guidance: how strongly captions are followed, for suites; 3.
        batch: clips sampled together, for suites; 16.
        seed: of what is asked for and of the noise, for suites; 0.
        keep: a folder to keep the clips of suites in, and to look for them: a measurement that was
            stopped goes on from there. Remove it where the code that samples has changed.
        json_out: a file to write the table to as JSON.
        markdown_out: a file to write the table of suites to as Markdown.
        plot_out: a .png, .svg or .pdf to draw the table of suites into.
    """
    from sora_jax.data.video import check_folder
    from sora_jax.evaluation.checkpoint import evaluate_checkpoint, evaluate_suites
    from sora_jax.evaluation.plots import check_plot, draw_capabilities

    of_files = {"frames": frames, "longest": longest}
    of_suites = {
        "samples": samples,
        "size": None if size is None else _size(size),
        "steps": steps,
        "guidance": guidance,
        "batch": batch,
        "seed": seed,
        "keep": keep,
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
        check_plot(plot_out, samples=samples)
    given = {k: v for k, v in (of_files | of_suites).items() if v is not None}
    if suite is None:
        if checkpoint is None:
            raise ValueError("there is no CHECKPOINT; give one, or --suite")
        report: Any = evaluate_checkpoint(checkpoint, files, **given)
    else:
        shown = Console().is_terminal
        report = evaluate_suites(checkpoint, suite.split(","), progress=shown, **given)
    console = Console()
    if suite is not None and not console.is_terminal:
        print(report.markdown())
    else:
        for table in report.tables(console.width):
            console.print(table)
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
        what: an experiment (.py), a folder (local or gs://), `worlds`, a simulator (`crafter`,
            `miniworld`, `vizdoom`), or the name of a tensorflow-datasets set.
        smoke: describe the experiment's tiny twin.
        tokens: the token budget of a batch, for data.
        fps: frames per second that data is read at; by default each clip's own.
        json_out: a file to write the same to as JSON.
        sheet: a PNG to draw some of the clips into, evenly chosen by name.
    """
    from sora_jax.data.video import check_folder, check_output
    from sora_jax.description import describe_data, describe_experiment

    if json_out:
        check_folder(json_out)
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"--fps {fps}: give frames per second above 0")
    if sheet and not sheet.lower().endswith(".png"):
        raise ValueError(f"--sheet {sheet}: give a name that ends with .png")
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
        report.draw_sheet(sheet)
        print(sheet)
