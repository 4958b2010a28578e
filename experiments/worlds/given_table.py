"""The table of experiments/README.md: what `given.py` has learnt, arm by arm.

    python experiments/worlds/given_table.py runs/given

Clips are those of fresh scenes of the same three worlds, sampled by every arm with the same noise.

text to video   the mean loss on held-out latents over a grid of times, nothing given
all right       one-shape sprites asked for by all four slots, of which all are right
first frame     animated from its first frame: the PSNR of that frame, against what was given
motion          the same clips: those that move as is asked for
seam            of a clip whose first and last two latent frames are given, the step in pixels over
                both ends of the gap, as a multiple of the true clip's (1 is seamless)
gap             PSNR of the frames in the gap; the arm cannot know all of them

Writes RUN/table.md and RUN/table.json, and prints the table. What is measured of an arm is kept in
RUN, and not measured again.
"""

import argparse
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track

import sora_jax
from sora_jax import config
from sora_jax.baselines.concatenation import Concatenated, ConcatenatedField, given_channels
from sora_jax.data.latents import LatentClips
from sora_jax.data.worlds.sprites import Sprites
from sora_jax.diffusion.guidance import Guidance
from sora_jax.diffusion.samplers import Euler
from sora_jax.evaluation.frames import psnr
from sora_jax.evaluation.reconstruction import from_uint8
from sora_jax.evaluation.suite import cases
from sora_jax.evaluation.suites.text import Text, motion_of
from sora_jax.evaluation.validation import grid_losses
from sora_jax.generation.pipeline import Pipeline
from sora_jax.generation.pixels import to_uint8
from sora_jax.training.encoding import Encode
from sora_jax.training.train import Train

STAGES = config.read_experiment(Path(__file__).with_name("given.py"))
ENCODED = next(stage.data for stage in STAGES if isinstance(stage, Encode))
SIZE = ENCODED.source.sizes[0]
STEPS, GUIDANCE, BATCH = 25, Guidance(scale=3.0), 32
ENDS = (0, 1, 3, 4)
"""Latent frames that are given of a clip whose gap is to be bridged."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def sampled(objective: Any, vae: Any, params: Any, vae_params: Any, given: Any, key: Any) -> Any:
    """Pixels of clips of which some latent frames are given: (latents, known, text)."""
    latent, known, text = given
    prompt = objective.condition(params, text, guidance=GUIDANCE)
    place = jnp.broadcast_to(known[:, :, None, None], (*latent.shape[:2], 1, 1))
    noise = jax.random.normal(key, latent.shape)
    extra: dict[str, Any] = {"known": place}
    if isinstance(objective, ConcatenatedField):
        extra["beside"] = given_channels(latent, place)
    # Concatenation alone has no times of its own for given frames: it makes them again.
    alone = isinstance(objective, Concatenated)
    start = jnp.where(place & ~alone, 0.0, 1.0)
    x = objective.schedule.mix(latent, noise, start)
    estimate = objective.estimator(params, prompt, guidance=GUIDANCE, **extra)
    x = Euler(steps=STEPS).sample(estimate, x, schedule=objective.schedule, start=start)
    return decoded(vae, vae_params, x)


def decoded(vae: Any, params: Any, latent: Any) -> Any:
    latent = vae.apply({"params": params}, latent, method="denormalise")
    video = vae.apply({"params": params}, latent, method="decode")
    return to_uint8(video)


@functools.partial(jax.jit, static_argnums=0)
def encoded(vae: Any, params: Any, video: Any, known: Any) -> Any:
    """Latents of the known frames by themselves, as they are all there is."""
    video = vae.lone(from_uint8(video), known)
    mean = vae.apply({"params": params}, video, method="encode").mean
    return vae.apply({"params": params}, mean, method="normalise")


def made(
    pipeline: Pipeline, frames: np.ndarray, captions: list[str], known: tuple[int, ...]
) -> Any:
    """What an arm makes of clips of which the latent frames `known` are given."""
    parts = []
    count = pipeline.vae.latent_size(SIZE).frames
    for start in track(range(0, len(frames), BATCH), description="sampling", transient=True):
        video = frames[start : start + BATCH]
        given = np.tile(np.isin(np.arange(count), known), (len(video), 1))
        latent = encoded(pipeline.vae, pipeline.vae_params, video, given)
        text = pipeline.tokenizer.tokens(captions[start : start + BATCH])
        key = jax.random.fold_in(jax.random.key(0), start)
        arguments = (pipeline.params, pipeline.vae_params, (latent, given, text), key)
        parts.append(sampled(pipeline.denoiser, pipeline.vae, *arguments))
    return np.concatenate(parts)


def step(frames: np.ndarray, at: int) -> np.ndarray:
    """The mean change of pixels from frame `at` - 1 to `at`, for each clip."""
    return np.abs(frames[:, at].astype(float) - frames[:, at - 1]).mean(axis=(1, 2, 3))


class Measured(NamedTuple):
    """An arm: its row, and what its two figures of the rule are means of, the same for all arms."""

    row: dict[str, float]
    losses: np.ndarray
    """Text to video, of each batch."""
    steps: np.ndarray
    """At both ends of a gap, of each clip [made or true, clips]."""


def measured(run: str, name: str, count: int) -> Measured:
    """What one arm is worth."""
    pipeline = sora_jax.load(f"{run}/{name}")
    data = LatentClips(path=f"{run}/held_out", tokenizer=pipeline.tokenizer, descriptive_share=0.0)
    held_out = data.open().some_of_each_bucket(16)
    grids = (
        grid_losses(pipeline.denoiser, pipeline.params, [(each.bucket, each.batch)], seed=number)
        for number, each in enumerate(held_out)
    )
    losses = [np.mean(list(grid.values())) for grid in grids]
    row = {"text to video": float(np.mean(losses))}

    suite = Text(size=SIZE)
    asked = cases(suite, count, seed=7)
    captions = [case.caption for case in asked]
    true = np.stack([case.frames() for case in asked])
    clips_made = made(pipeline, true, captions, ())
    scores = [suite.scores(case, clip)["all"] for case, clip in zip(asked, clips_made, strict=True)]
    row["all right"] = float(np.mean(scores))

    animated = made(pipeline, true, captions, (0,))
    row["first frame"] = float(psnr(true[:, 0], animated[:, 0]).mean())
    right = []
    for case, clip in zip(asked, animated, strict=True):
        seen = Sprites().read(clip)
        colour = int(seen.area.sum(0).argmax())
        way = motion_of(seen.centre[:, colour], side=min(clip.shape[1:3]))
        right.append(way == case.scene.sprites[0].motion)
    row["motion"] = float(np.mean(right))

    data = dataclasses.replace(ENCODED.source, clips=count, seed=6).open()
    whole = np.stack([data.read(index, 0, SIZE.frames) for index in range(count)])
    texts = [record.captions[0].text for record in data.records]
    bridged = made(pipeline, whole, texts, ENDS)
    first, last = 5, 9  # frames: the first of the gap, and the first after it
    steps = [step(each, first) + step(each, last) for each in (bridged, whole)]
    row["seam"] = float(steps[0].sum() / steps[1].sum())
    pairs = zip(whole[:, first:last], bridged[:, first:last], strict=True)
    row["gap"] = float(np.mean([psnr(*pair).mean() for pair in pairs]))
    return Measured(row, np.array(losses), np.array(steps))


def kept(run: str, name: str, count: int) -> Measured:
    """The same, from a file beside the arm if it was measured before."""
    path = Path(run) / f"{name}_{count}.npz"
    if not path.exists():
        found = measured(run, name, count)
        np.savez(path, losses=found.losses, steps=found.steps, **found.row)
        print(name, found.row, flush=True)
    with np.load(path) as file:
        row = {key: float(file[key]) for key in file.files if key not in ("losses", "steps")}
        return Measured(row, file["losses"], file["steps"])


def more(one: np.ndarray, other: np.ndarray) -> str:
    """By how much the mean of some exceeds that of others of the same clips, or batches, with a
    95 % interval over draws of these."""
    drawn = np.random.default_rng(0).integers(0, len(one), (4000, len(one)))
    found = one[drawn].mean(1) / other[drawn].mean(1) - 1
    low, high = np.quantile(found, (0.025, 0.975))
    return f"{one.mean() / other.mean() - 1:+.1%} ({low:+.1%} to {high:+.1%})"


def worse(one: np.ndarray, other: np.ndarray) -> str:
    """By how much the seam of some clips is farther from none than that of others, as a factor
    less 1, with a 95 % interval over draws of the clips: a blur is as far from 1 as a jump."""

    def apart(steps: np.ndarray) -> np.ndarray:
        made, true = steps.sum(-1)
        return np.abs(np.log(made / true))

    drawn = np.random.default_rng(0).integers(0, one.shape[1], (4000, one.shape[1]))
    found = np.exp(apart(one[:, drawn]) - apart(other[:, drawn])) - 1
    low, high = np.quantile(found, (0.025, 0.975))
    return f"{np.exp(apart(one) - apart(other)) - 1:+.1%} ({low:+.1%} to {high:+.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--clips", type=int, default=256)
    given = parser.parse_args()
    arms = [stage.name for stage in STAGES if isinstance(stage, Train)]
    found = {name: kept(given.run, name, given.clips) for name in arms}
    rows = {name: arm.row for name, arm in found.items()}
    heads = list(rows[arms[0]])
    lines = [f"| arm | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[head]:.4f}' for head in heads)} |")
    field, both, again = found["field"], found["both"], found["field_again"]
    lines += [
        "",
        f"Field more than both: text-to-video loss {more(field.losses, both.losses)}, seam farther "
        f"from 1 {worse(field.steps, both.steps)}; it is taken up to 1 % and 5 %. Field again more "
        f"than field: {more(again.losses, field.losses)} and {worse(again.steps, field.steps)}.",
    ]
    table = "\n".join(lines)
    (Path(given.run) / "table.md").write_text(table + "\n")
    (Path(given.run) / "table.json").write_text(json.dumps(rows, indent=1))
    print(table)


if __name__ == "__main__":
    main()
