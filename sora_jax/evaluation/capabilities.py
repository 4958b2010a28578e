"""What a model can do, measured on worlds whose state is read back from pixels.

A suite asks for clips of one world by their captions and scores each clip that comes back. The same
scores are taken of

    ceiling    the clips as the world draws them
    codec      those, encoded and decoded again: the best that the model's latents allow
    model      what the model makes of the captions
    floors     clips of which one promise is broken (`broken`): shuffled, frozen and crossed of
               every measure

Ceiling and floors cost no model; a suite that needs more clips of them says so (`Suite.truths`).
Each measure names the floor that it is to tell from the ceiling. One whose ceiling and floor are
not five standard errors apart, or known of a few clips only, measures nothing here, and is marked
as not counting. One by which a still clip is as good as a true one is marked as well. A clip of
model or codec that a measure cannot judge where it can judge the true one (because nothing is to be
seen, say) is taken to be as bad as the floor, or as those that are judged if these are worse; the
interval reaches to where it would be if all these were as good as the ceiling. How many could be
judged stands in the table, and where some could not, the mean of those that could.

Beside the suites stands the latent Fréchet distance (`frechet`) of all their clips from as many
fresh ones of the worlds, for model and codec, and for the true clips as the floor.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.progress import track

from sora_jax.arrays import Size
from sora_jax.data.worlds.world import FPS, Frames
from sora_jax.evaluation.broken import Floor, broken
from sora_jax.evaluation.frechet import latent_distance, latent_features
from sora_jax.evaluation.kept import check_keep, kept
from sora_jax.evaluation.reconstruction import reconstructed
from sora_jax.evaluation.statistics import Mean, Z
from sora_jax.evaluation.suite import Case, Metric, Suite, cases, resized
from sora_jax.evaluation.table import FLOORS, Capabilities, Row, worse
from sora_jax.generation.pipeline import Pipeline


def measure(
    pipeline: Pipeline | None,
    suites: Sequence[Suite],
    *,
    samples: int = 48,
    size: Size | None = None,
    steps: int = 25,
    guidance: float = 3.0,
    batch: int = 16,
    seed: int = 0,
    keep: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Capabilities:
    """Returns the scores of a model, or of the worlds alone where `pipeline` is None.

    samples         clips that model and codec make for each suite.
    size            of all clips; each suite's own by default.
    steps, guidance, batch  as in `Pipeline.generate`.
    seed            of the scenes, and of the model's noise: of others both are others.
    keep            folder in which the model's clips are kept, and looked for: a measurement that
                    was stopped goes on from there, and one by other measures samples nothing anew.
                    Remove it where the code that samples has changed.

    Raises ValueError for less than two samples, a seed below 0 or beyond 32 bits, fewer frames than
    a suite needs, a folder that cannot be made, and a model of clips at another rate than FPS.
    """
    if samples < 2:
        raise ValueError(f"samples is {samples}; at least two clips must be asked for")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; give a number from 0 to 2^32 - 1")
    if size is not None and min(size) < 1:
        raise ValueError(f"size is {size}; frames, height and width start at 1")
    if pipeline is not None and pipeline.fps != FPS:
        raise ValueError(
            f"{pipeline.source} makes {pipeline.fps:g} frames per second, and suites read motion "
            f"at {FPS:g}: train on clips at that rate"
        )
    if keep is not None:
        check_keep(keep)
    rows: list[Row] = []
    features: dict[str, list[Any]] = {arm: [] for arm in ("fresh", "ceiling", "codec", "model")}
    sizes: dict[str, Size] = {}
    cut: dict[str, int] = {}
    if size is not None:
        suites = [resized(suite, size) for suite in suites]
    all_cases = [cases(suite, samples * suite.truths, seed=seed) for suite in suites]
    for suite, known in zip(suites, all_cases, strict=True):
        true = [case.frames() for case in known]
        asked = known[:samples]
        sizes[suite.name] = suite.size
        arms: dict[str, list[Frames]] = {"ceiling": true}
        floors: set[Floor] = {*FLOORS, *(metric.floor for metric in suite.metrics)}
        for floor in floors:
            arms[floor] = broken(true, floor, seed=seed)
        if pipeline is not None:
            arms["codec"] = [
                reconstructed(pipeline.vae, pipeline.vae_params, clip) for clip in true[:samples]
            ]
            captions = [case.caption for case in asked]
            cut[suite.name] = pipeline.tokenizer.truncated(captions)
            how = {"steps": steps, "guidance": guidance, "seed": seed, **suite.size._asdict()}
            make = functools.partial(_made, pipeline, captions, batch, progress, how)
            if keep is None:
                arms["model"] = make()
            else:
                about = how | {"prompts": captions, "weights": pipeline.fingerprint()}
                arms["model"] = kept(keep, suite.name, about, make)
        scored = {
            arm: _scored(suite, known[: len(clips)], clips, arm if progress else None)
            for arm, clips in arms.items()
        }
        rows += [_row(suite.name, metric, scored) for metric in suite.metrics]
        fresh = cases(suite, samples, seed=seed + 1)
        arms["fresh"] = [case.frames() for case in fresh]
        for arm in features.keys() & arms.keys():
            features[arm].append(latent_features(arms[arm][:samples]))
    name = pipeline.source if pipeline is not None else "worlds"
    found = {arm: np.concatenate(parts) for arm, parts in features.items() if parts}
    fresh = found.pop("fresh")
    distances = {arm: latent_distance(each, fresh) for arm, each in found.items()}
    return Capabilities(
        model=name,
        samples=samples,
        settings={"steps": steps, "guidance": guidance, "seed": seed},
        sizes=sizes,
        cut=cut,
        rows=tuple(rows),
        distances=distances,
    )


def _made(
    pipeline: Any,
    captions: list[str],
    batch: int,
    progress: bool,
    how: dict[str, Any],
) -> list[Frames]:
    made = pipeline.generate(captions, batch=batch, progress=progress, **how)
    return [clip.frames for clip in made]


def _scored(
    suite: Suite, asked: Sequence[Case], clips: Sequence[Frames], told: str | None
) -> list[dict[str, float]]:
    pairs = list(zip(asked, clips, strict=True))
    bar = track(pairs, description=f"{suite.name}: {told}", disable=told is None, transient=True)
    return [suite.scores(case, clip) for case, clip in bar]


def _row(suite: str, metric: Metric, scored: dict[str, list[dict[str, float]]]) -> Row:
    values = {arm: np.array([each[metric.name] for each in found]) for arm, found in scored.items()}
    true, floor = values["ceiling"], values[metric.floor]
    ends = {arm: Mean.of(each).value for arm, each in (("ceiling", true), ("floor", floor))}
    asked = min(map(len, values.values()))
    judgeable = np.isfinite(true[:asked])
    arms, judged = {}, {}
    for arm, own in values.items():
        span = _span(metric, true, floor, own)
        if arm in ("codec", "model"):
            own = own[judgeable]
            known = own[np.isfinite(own)]
            judged[arm] = Mean.of(known, span=span)
            blank = np.ones(len(own) - len(known))
            worst = max if metric.better == "low" else min
            ends["bad"] = worst(ends["floor"], judged[arm].value if len(known) else ends["floor"])
            low, high = (
                Mean.of(np.concatenate([known, ends[end] * blank]), span=span)
                for end in ("bad", "ceiling")
            )
            arms[arm] = low.reaching(high)
        else:
            arms[arm] = Mean.of(own, span=span)
    # Not by the span, which a floor far off makes too wide for what is near the ceiling.
    still_wins = worse(metric, Mean.of(values["frozen"]), Mean.of(true)) <= Z
    return Row(
        suite=suite,
        metric=metric,
        arms=arms,
        judged=judged,
        judgeable=int(judgeable.sum()),
        still_wins=still_wins,
    )


def _span(metric: Metric, *arms: np.ndarray) -> tuple[float, float] | None:
    """Within which the scores of these arms are; None where there are none."""
    found = np.concatenate(arms)
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = float(found.min()), float(found.max())
    return (min(low, 0.0), max(high, 1.0)) if metric.yes_no or low == high else (low, high)
