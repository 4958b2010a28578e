"""The model that comes with the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sora_jax
from sora_jax.arrays import Size
from sora_jax.data.video import read_clip
from sora_jax.data.worlds.source import ALL
from sora_jax.evaluation.suite import cases
from sora_jax.evaluation.suites.text import Text
from sora_jax.generation.loading import SHIPPED


def test_it_is_small_and_says_what_it_is() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24e6
    assert {path.suffix for path in files} == {".md", ".json", ".safetensors"}
    model = json.loads((SHIPPED / "model.json").read_text())
    assert "coloured shapes" in json.dumps(model)
    card = (SHIPPED / "CARD.md").read_text()
    for part in ("asked for", "**Data**", "**Cost**", "## Measured", "## Licence"):
        assert part in card


def test_it_knows_the_words_of_its_worlds_and_says_what_it_can_be_asked_for(caplog: Any) -> None:
    pipeline = sora_jax.load()
    assert not pipeline.domain.strange("a red circle moves left over a green field")
    assert "17x64x64" in repr(pipeline) and "coloured shapes" in repr(pipeline)
    assert len(repr(pipeline)) < 2000
    assert pipeline.domain.strange("a photograph of a dragon") == ["photograph", "dragon"]
    made = pipeline.image("a photograph of a dragon", height=48, width=48, steps=2)
    assert made.frames.shape == (1, 48, 48, 3)
    assert "without the words: photograph, dragon. It can be asked for: short clips" in caplog.text


def test_what_the_readme_shows_was_asked_for_in_words_that_it_knows() -> None:
    domain, page = (
        sora_jax.load().domain,
        Path(__file__).parents[2] / "experiments/worlds/prompts.txt",
    )
    prompts = page.read_text().splitlines()
    assert len(prompts) == len(ALL)
    assert not [word for prompt in prompts for word in domain.strange(prompt)]


@pytest.mark.parametrize(
    ("samples", "steps", "least"),
    [
        (4, 6, {"colour": 0.8, "motion": 0.8, "place": 0.8}),
        pytest.param(
            24,
            20,
            {"colour": 0.95, "motion": 0.95, "place": 0.95, "shape": 0.8},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_clips_show_what_is_asked_for(samples: int, steps: int, least: dict[str, float]) -> None:
    pipeline, suite = sora_jax.load(), Text(size=Size(17, 48, 48))
    asked = cases(suite, samples, seed=3)
    captions = [case.caption for case in asked]
    made = pipeline.generate(captions, **suite.size._asdict(), steps=steps, batch=4)
    scores = [suite.scores(case, clip.frames) for case, clip in zip(asked, made, strict=True)]
    # What chance gives is a fifth or less of each.
    for name, share in least.items():
        assert np.mean([score[name] for score in scores]) >= share, name


@pytest.mark.slow
def test_the_first_command_needs_nothing_but_a_prompt(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sora_jax", "generate"]
    prompt = "a red circle moves left over a green field"
    ended = subprocess.run(
        [*command, prompt, "--out", "clip.mp4"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "the worlds" in ended.stderr + ended.stdout
    frames = read_clip(tmp_path / "clip.mp4").astype(int)
    corner = frames[:, :4, :4].mean((0, 1, 2))
    assert corner.argmax() == 1, "the field is green"
    red = frames[..., 0] > frames[..., 1] + 60
    places = [np.argwhere(each).mean(0)[1] for each in red if each.any()]
    assert len(places) > 8 and places[0] > places[-1] + 8, "it moves left"
