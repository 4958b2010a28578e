"""The `sora-jax` command: each subcommand a thin function over the package.

sora-jax train EXPERIMENT.py [--out DIR] [--smoke] [--any.field value ...]
sora-jax generate PROMPT ... [--checkpoint DIR] --out clip.mp4
sora-jax image PROMPT --height 128 --width 128 --out image.png
sora-jax animate IMAGE [PROMPT]
sora-jax extend VIDEO [PROMPT] [--direction backward]
sora-jax loop [VIDEO] [--prompt PROMPT]
sora-jax edit VIDEO PROMPT [--strength 0.6]
sora-jax connect FIRST SECOND [PROMPT]
sora-jax retake VIDEO PROMPT [--span FIRST END] [--box TOP LEFT BOTTOM RIGHT]
sora-jax evaluate [CHECKPOINT] [FILES ...]
sora-jax encode AUTOENCODER DATA --out DIR
sora-jax freeze RUN --about TEXT --out DIR
sora-jax describe DATA-OR-EXPERIMENT
sora-jax compile EXPERIMENT --topology v6e:16x16
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

import tyro

from sora_jax.cli.compiling import compile
from sora_jax.cli.generation import generate, image
from sora_jax.cli.measuring import describe, evaluate
from sora_jax.cli.tasks import animate, connect, edit, extend, loop, retake
from sora_jax.cli.training import encode, freeze, train
from sora_jax.parallel.topology import set_flags

TRACEBACK = "SORA_JAX_TRACEBACK"
"""Environment variable that, when set, lets every error end with its traceback."""

COMMANDS = (
    train,
    generate,
    image,
    animate,
    extend,
    loop,
    edit,
    connect,
    retake,
    evaluate,
    encode,
    freeze,
    describe,
    compile,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; an error ends it with code 1, one that a user can mend with one message."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("sora_jax").setLevel(logging.INFO)
    set_flags()
    try:
        if given[:1] == ["train"]:
            train(given[1:])
        elif given[:1] == ["compile"]:
            compile(given[1:])
        else:
            tyro.extras.subcommand_cli_from_dict(
                {command.__name__: command for command in COMMANDS},
                prog="sora-jax",
                description="Trains, samples and measures models of video; "
                "`sora-jax COMMAND --help` tells of each command.",
                args=given,
            )
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, _mendable()) and not os.environ.get(TRACEBACK):
            print(f"sora-jax: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        if given[:1] == ["train"]:
            from sora_jax.parallel.processes import end_for_good

            end_for_good(error)
        sys.exit(1)


def _mendable() -> tuple[type[Exception], ...]:
    """Errors that a user can mend by their messages; of all others the place is told as well."""
    from sora_jax.checkpoint import CheckpointError
    from sora_jax.data.video import VideoError

    own = (CheckpointError, VideoError)
    return (ValueError, OSError, ImportError, MemoryError, RuntimeError, *own)
