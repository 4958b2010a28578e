"""The commands that make clips, up to the pipeline: where they write, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sora_jax
from sora_jax import cli
from sora_jax.data.video import read_clip, read_metadata, write_video
from sora_jax.evaluation.frames import psnr
from sora_jax.training import programs
from tests.generation.untrained import clip, untrained


@pytest.fixture(autouse=True)
def model(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(sora_jax, "load", lambda *_, **__: untrained(frames=33), raising=False)
    monkeypatch.setattr(programs, "keep_in", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str, capsys: Any) -> str:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    return capsys.readouterr().err


def test_an_image_is_edited_and_retaken_to_an_image(capsys: Any) -> None:
    write_video("image.png", clip(1, 24, 16), fps=8)
    cli.main(["edit", "image.png", "red", "--out", "edited.png", "--steps", "2"])
    retake = ["retake", "image.png", "red", "--box", "0", "0", "8", "8"]
    cli.main([*retake, "--out", "retaken.png", "--steps", "2"])
    for name in ("edited.png", "retaken.png"):
        assert read_clip(name).shape == (1, 24, 16, 3)
    write_video("clip.mp4", clip(5), fps=8)
    for wrong in (["edit", "clip.mp4", "red"], ["connect", "clip.mp4", "clip.mp4"]):
        said = refused(*wrong, "--strength", "1.5", "--checkpoint", "none", capsys=capsys)
        assert "give numbers in 0..1" in said
    said = refused("edit", "clip.mp4", "red", "--out", "edited2.png", capsys=capsys)
    assert "a .png holds one frame, not 5" in said
    assert "no folder" in refused("edit", "clip.mp4", "red", "--out", "no/x.mp4", capsys=capsys)
    assert "x.mp4" in refused("edit", "x.mp4", "red", capsys=capsys)


def test_each_task_is_a_command(caplog: Any) -> None:
    caplog.set_level("WARNING", logger="sora_jax")
    write_video("clip.mp4", clip(9), fps=8)
    few = ("--steps", "2")
    sides = ("--height", "16", "--width", "24")
    cli.main(["image", "red", *sides, "--out", "image.png", *few])
    assert read_clip("image.png").shape == (1, 16, 24, 3)
    for given in ("image.png", "clip.mp4"):
        cli.main(["animate", given, "red", "--frames", "5", "--out", "animated.mp4", *few])
        assert read_clip("animated.mp4").shape == (5, 16, 24, 3)
    cli.main(["loop", "--prompt", "red", "--frames", "8", *sides, "--out", "loop.gif", *few])
    assert read_clip("loop.gif").shape == (8, 16, 24, 3)
    assert "does nothing" not in caplog.text
    backward = ("--direction", "backward", "--frames", "4", "--count", "2")
    cli.main(["extend", "clip.mp4", *backward, "--out", "begun.mp4", *few])
    one, two = (read_clip(f"begun_{number}.mp4") for number in (0, 1))
    assert one.shape == two.shape == (13, 16, 24, 3)
    # One ending, two beginnings; MP4 is off by a little.
    assert psnr(one[5:], two[5:]).min() > psnr(one[:4], two[:4]).max()


def test_mistakes_are_told_before_the_model_is_loaded(capsys: Any, monkeypatch: Any) -> None:
    write_video("clip.mp4", clip(5), fps=8)
    monkeypatch.setattr(sora_jax, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    retake = ("retake", "clip.mp4", "red")
    for wrong, said in {
        (*retake,): "give span, box or both",
        (*retake, "--span", "4", "4"): "span 4 to 4 holds no frames",
        (*retake, "--span", "-1", "4"): "span -1 to 4 holds no frames",
        (
            *retake,
            "--box",
            "8",
            "0",
            "8",
            "8",
        ): "box 8, 0, 8, 8 (top, left, bottom, right) holds no",
        ("connect", "clip.mp4", "clip.mp4", "--strength", "0", "2"): "give numbers in 0..1",
        ("generate", "red", "--seed", str(2**63)): f"seed={2**63}: give an integer",
        # The seed of the last clip.
        ("loop", "clip.mp4", "--seed", str(2**63 - 2), "--count", "3"): f"seed={2**63}: give",
    }.items():
        assert said in refused(*wrong, capsys=capsys), wrong


def test_a_ramp_of_strengths_connects(capsys: Any) -> None:
    write_video("clip.mp4", clip(5), fps=8)
    few = ["--frames", "12", "--steps", "1", "--out", "out.mp4"]
    cli.main(["connect", "clip.mp4", "clip.mp4", "red", "--strength", "0", "1", "0", *few])
    assert read_metadata("out.mp4")["strength"] == "(0.0, 1.0, 0.0)"
    assert read_clip("out.mp4").shape == (22, 16, 24, 3)


def test_flags_of_guidance_default_to_what_the_task_has(capsys: Any) -> None:
    write_video("clip.mp4", clip(8), fps=8)
    few = ["--frames", "4", "--steps", "1", "--out", "out.mp4"]

    def guidance(*arguments: str) -> str:
        cli.main([*arguments, *few])
        return read_metadata("out.mp4")["guidance"]

    assert "scale=3.0, given=1.0" in guidance("extend", "clip.mp4", "red")
    assert "scale=3.0, given=1.5" in guidance("connect", "clip.mp4", "clip.mp4", "red")
    assert "scale=1.0, given=1.5" in guidance("loop", "clip.mp4")
    own = ("--guidance", "2", "--guidance-given", "1")
    assert "scale=2.0, given=1.0" in guidance("connect", "clip.mp4", "clip.mp4", "red", *own)


def test_long_clips_are_streamed_to_any_mp4(monkeypatch: Any) -> None:
    streamed = []
    monkeypatch.setattr(
        type(untrained()), "generate_to", lambda self, path, *_, **__: streamed.append(path)
    )
    few = ["generate", "red", "--frames", "37", "--height", "16", "--width", "16", "--steps", "1"]
    cli.main([*few, "--out", "LONG.MP4"])
    assert streamed == ["LONG.MP4"]
    cli.main([*few, "--out", "long.gif"])
    assert len(streamed) == 1 and np.asarray(read_clip("long.gif")).shape == (37, 16, 16, 3)


def test_several_long_clips_go_on_with_the_one_that_was_stopped(monkeypatch: Any) -> None:
    few = ["--frames", "37", "--height", "16", "--width", "16", "--steps", "1", "--out", "a.mp4"]
    command = ["generate", "red", "blue", "green", *few]
    model, sampled = type(untrained()), []
    sample = model.sample

    def stopped(self: Any, canvas: Any, prompts: Any, *arguments: Any, **named: Any) -> Any:
        if prompts == ["green"]:
            raise KeyboardInterrupt
        return sample(self, canvas, prompts, *arguments, **named)

    with monkeypatch.context() as during:
        during.setattr(model, "sample", stopped)
        with pytest.raises(SystemExit):
            cli.main(command)
    assert Path("a_2.mp4.parts").exists() and not Path("a_1.mp4.parts").exists()
    Path("a_0.mp4").write_bytes(b"another file")

    def counted(self: Any, canvas: Any, prompts: Any, *arguments: Any, **named: Any) -> Any:
        sampled.extend(prompts)
        return sample(self, canvas, prompts, *arguments, **named)

    monkeypatch.setattr(model, "sample", counted)
    cli.main(command)
    assert {*sampled} == {"red", "green"}
    assert read_clip("a_2.mp4").shape == read_clip("a_1.mp4").shape == (37, 16, 16, 3)
    sampled.clear()
    cli.main(command)
    assert {*sampled} == {"red", "blue", "green"}
