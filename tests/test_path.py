"""From files to a clip, as a user goes: train, generate, evaluate, describe; and mistakes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import sora_jax
from sora_jax import cli, config
from sora_jax.arrays import Size
from sora_jax.checkpoint import CheckpointError
from sora_jax.data.latents import LatentClips
from sora_jax.data.plan import PlanError
from sora_jax.data.video import read_clip, read_metadata, write_video
from sora_jax.evaluation.suites import SUITES
from sora_jax.frozen import read_frozen
from sora_jax.generation import loading
from sora_jax.generation.loading import SHIPPED
from sora_jax.parallel.mesh import Mesh
from sora_jax.stages import Freeze, run_stages
from sora_jax.training.encoding import Encode
from sora_jax.training.metrics import read_lines
from sora_jax.training.preemption import Notice
from tests.tiny import stages, write_media


@pytest.fixture(scope="module")
def home(tmp_path_factory: Any) -> Path:
    """A folder with media/ and a finished run in run/."""
    home = tmp_path_factory.mktemp("path")
    write_media(home / "media")
    run_stages(stages(home / "media"), home / "run")
    return home


def run(*arguments: str | Path) -> None:
    cli.main([str(argument) for argument in arguments])


def fails(capsys: Any, *arguments: str | Path) -> str:
    """The message of a command that must fail."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code not in (0, None)
    return capsys.readouterr().err


def test_stages_leave_checkpoints_latents_and_metrics(home: Path):
    assert (home / "run/transformer/checkpoints/2").exists()
    assert (home / "run/transformer/autoencoder/model.json").exists()
    metrics = {key for line in read_lines(home / "run/transformer") for key in line}
    assert {"loss", "validation/3x16x32/sigma_0.5", "validation/mean"} <= metrics
    assert (home / "run/transformer/samples/0000002_0.mp4").exists()
    assert "reconstruction/psnr" in {
        key for line in read_lines(home / "run/autoencoder") for key in line
    }


def test_a_finished_run_costs_nothing(home: Path):
    before = (home / "run/transformer/metrics.jsonl").read_text()
    run_stages(stages(home / "media"), home / "run")
    assert (home / "run/transformer/metrics.jsonl").read_text() == before


def test_the_same_seed_gives_the_same_clip_and_another_gives_another(home: Path):
    pipeline = sora_jax.load(home / "run")
    settings = {"frames": 3, "height": 16, "width": 24, "steps": 2}
    first = pipeline.generate("red", seed=1, **settings)
    assert first.frames.shape == (3, 16, 24, 3) and first.frames.dtype == np.uint8
    assert first.fps == 8
    assert np.array_equal(first.frames, pipeline.generate("red", seed=1, **settings).frames)
    assert not np.array_equal(first.frames, pipeline.generate("red", seed=2, **settings).frames)
    several = pipeline.generate(["green", "red"], seed=0, **settings)
    assert np.array_equal(several[1].frames, first.frames)
    # Sampled together, of which the last batch is not full, they differ by rounding alone.
    together = pipeline.generate(["green", "red", "red"], seed=0, batch=2, **settings)
    for one, other in zip(several, together, strict=False):
        assert np.abs(one.frames.astype(int) - other.frames).max() <= 1
    assert len(together) == 3 and together[2].metadata["seed"] == "2"


def test_any_size_is_made_and_cut_back(home: Path):
    pipeline = sora_jax.load(home / "run/transformer")
    clip = pipeline.generate("red", frames=2, height=13, width=27, steps=1, guidance=1.0)
    assert clip.frames.shape == (2, 13, 27, 3)


@pytest.mark.slow
def test_a_mesh_makes_the_clip_that_one_device_makes(home: Path):
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices (tests/conftest.py asks for virtual ones)")
    mesh = Mesh(data=1, fsdp=2, sequence=2, tensor=2)
    alone, shared = sora_jax.load(home / "run"), sora_jax.load(home / "run", mesh=mesh)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(shared.params)} == {8}
    # Of five by three tokens, which two devices cannot share evenly.
    settings = {"frames": 5, "height": 16, "width": 48, "steps": 2}
    one, other = (each.generate("red", **settings).frames for each in (alone, shared))
    assert np.abs(one.astype(int) - other).max() <= 1
    made = (each.extend(one, "red", frames=2, steps=2).frames for each in (alone, shared))
    one, other = made
    assert np.abs(one.astype(int) - other).max() <= 1


def test_a_long_clip_is_decoded_in_a_stream(home: Path):
    pipeline = sora_jax.load(home / "run/transformer/checkpoints/2")
    latent = np.random.default_rng(0).normal(size=(1, 19, 2, 2, 4)).astype(np.float32)
    streamed = pipeline.codec().decode(latent)[0]
    short = pipeline.codec().decode(latent[:, :8])[0]
    assert streamed.shape == (19, 16, 16, 3)
    assert np.abs(streamed[:8].astype(int) - short).max() <= 1


def test_the_command_writes_a_file_that_says_how_it_was_made(home: Path):
    out = home / "clip.mp4"
    size = ("--frames", "3", "--height", "16", "--width", "16", "--steps", "1")
    run("generate", "red", "--checkpoint", home / "run", "--out", out, "--seed", "7", *size)
    assert read_clip(out).shape == (3, 16, 16, 3)
    made = read_metadata(out)
    assert made["prompt"] == "red" and made["seed"] == "7"
    assert made["version"] == f"sora_jax {sora_jax.__version__}"


def test_a_frozen_generator_is_small_and_makes_the_same(home: Path, capsys: Any, caplog: Any):
    out = home / "frozen"
    run("freeze", home / "run", "--about", "red and green", "--out", out)
    assert "holds a model" in fails(capsys, "freeze", home / "run", "--about", "x", "--out", out)
    weights = (out / "weights.safetensors").stat().st_size
    whole, frozen = sora_jax.load(home / "run"), sora_jax.load(out)
    assert weights < 3 * sum(leaf.size for leaf in jax.tree.leaves(whole.params))
    assert frozen.fps == whole.fps and frozen.domain.words == ("green", "red")
    settings = {"frames": 3, "height": 16, "width": 24, "steps": 2}
    with caplog.at_level("WARNING"):
        one, other = (each.generate("red", **settings).frames for each in (whole, frozen))
        assert np.abs(one.astype(int) - other).max() <= 2  # half precision
        assert not caplog.text
        frozen.generate("a red dragon", **settings)
    assert "dragon" in caplog.text and "red and green" in caplog.text
    with pytest.raises(CheckpointError, match="generates nothing"):
        sora_jax.load(out / "autoencoder")


def test_a_stage_freezes_a_generator_and_keeps_how_it_came_about(home: Path):
    stage = Freeze(name="frozen", run="{out}/transformer", about="red and green")
    for _ in range(2):  # what is done costs nothing
        run_stages((stage,), home / "run")
    assert sora_jax.load(home / "run/frozen").domain.about == "red and green"
    kept = json.loads((home / "run/frozen/experiment.json").read_text())
    assert config.from_json(kept[0]) == stage
    with pytest.raises(CheckpointError, match="frozen holds the generator of another experiment"):
        run_stages((dataclasses.replace(stage, about="blue"),), home / "run")


def test_without_a_shipped_generator_a_folder_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    assert "--checkpoint" in fails(capsys, "generate", "red", "--out", tmp_path / "clip.mp4")


def test_prompts_from_a_file_make_numbered_clips_and_a_sheet(home: Path):
    (home / "prompts.txt").write_text("red\n\ngreen\n")
    size = ("--frames", "1", "--height", "16", "--width", "16", "--steps", "1")
    files = ("--prompt-file", home / "prompts.txt", "--sheet", home / "sheet.png")
    run("generate", "--checkpoint", home / "run", "--out", home / "p.png", *files, *size)
    assert (home / "p_0.png").exists() and (home / "p_1.png").exists()
    assert (home / "sheet.png").exists()


@pytest.mark.slow
def test_each_task_is_a_command_on_real_files(home: Path, capsys: Any):
    image, red, green = home / "image.png", home / "media/red.mp4", home / "media/green.mp4"
    run("freeze", home / "run", "--about", "red", "--out", home / "tasks")
    model = home / "tasks/model.json"
    # As if it had seen longer clips than the three frames of this run.
    model.write_text(model.read_text().replace('"frames": 3', '"frames": 20'))
    quick = ("--checkpoint", home / "tasks", "--steps", "1")
    run("image", "red", "--height", "16", "--width", "32", "--out", image, *quick)
    assert read_clip(image).shape == (1, 16, 32, 3)
    commands = {
        "animate": (image, "red", "--frames", "3"),
        "extend": (red, "--frames", "2", "--direction", "backward", "--count", "2"),
        "loop": (red, "--frames", "2"),
        "edit": (red, "green", "--strength", "0.2", "0.8"),
        "connect": (red, green, "green", "--frames", "2"),
        "retake": (red, "green", "--span", "1", "3", "--box", "0", "0", "8", "8"),
    }
    lengths = {"animate": 3, "extend": 8, "loop": 8, "edit": 6, "connect": 14, "retake": 6}
    for name, arguments in commands.items():
        out = home / f"{name}.mp4"
        run(name, *arguments, "--out", out, "--height", "16", *quick)
        made = home / f"{name}_1.mp4" if name == "extend" else out
        assert read_clip(made).shape == (lengths[name], 16, 32, 3)
        assert name in read_metadata(made)["task"]
    run("loop", "--prompt", "red", "--frames", "2", "--out", home / "text.gif", *quick)
    assert len(read_clip(home / "text.gif")) == 2
    assert "nothing to loop" in fails(capsys, "loop", *quick)
    assert "give 1 or more" in fails(capsys, "loop", red, "--count", "0", *quick)
    assert str(home / "no.mp4") in fails(capsys, "extend", home / "no.mp4", *quick)
    same = home / "media" / ".." / red.relative_to(home)
    assert "would be lost" in fails(capsys, "extend", red, *quick, "--out", same)
    # Both before the model is looked for.
    nowhere = ("--checkpoint", home / "nowhere")
    assert str(home / "no.mp4") in fails(capsys, "edit", home / "no.mp4", "red", *nowhere)


def test_a_prototype_is_on_disk_before_the_whole(home: Path, capsys: Any):
    size = ("--frames", "2", "--height", "32", "--width", "32", "--steps", "2")
    out = ("--out", home / "whole.mp4", "--checkpoint", home / "run")
    run("generate", "red", "--prototype", "2", *size, *out)
    assert read_clip(home / "whole.prototype.mp4").shape == (2, 16, 16, 3)
    assert read_clip(home / "whole.mp4").shape == (2, 32, 32, 3)
    assert "2 or more" in fails(capsys, "generate", "red", "--prototype", "1", *size, *out)
    (home / "whole.prototype.mp4").unlink()
    twice = ("--prototype", "2", "--strength", "2")
    assert "in 0..1" in fails(capsys, "generate", "red", *twice, *size, *out)
    assert not (home / "whole.prototype.mp4").exists()
    assert "--prototype as well" in fails(
        capsys, "generate", "red", "--strength", "0.5", *size, *out
    )


def test_a_sheet_takes_no_clip_s_place(home: Path, capsys: Any):
    files = ("--out", home / "a.png", "--sheet", home / "a.png")
    assert "a clip's own file" in fails(capsys, "image", "red", *files)


def test_a_clip_longer_than_those_of_the_training_is_made_hop_by_hop(home: Path):
    assert sora_jax.load(home / "run").domain.frames == 3
    size = ("--frames", "6", "--height", "16", "--width", "16", "--steps", "1")
    run("generate", "red", *size, "--checkpoint", home / "run", "--out", home / "long.mp4")
    assert read_clip(home / "long.mp4").shape == (6, 16, 16, 3)
    assert not (home / "long.mp4.parts").exists()


def test_evaluate_measures_files_and_the_loss_grid(home: Path, capsys: Any):
    out = home / "evaluation.json"
    run("evaluate", home / "run", home / "media/red.mp4", "--json-out", out)
    found = json.loads(out.read_text())
    (row,) = found["files"].values()
    assert row["size"] == "6x16x32" and 0 < row["psnr"] < 100
    assert {each["sigma"] for each in found["losses"]} == {0.1, 0.3, 0.5, 0.7, 0.9}
    assert "PSNR" in capsys.readouterr().out
    run("evaluate", home / "run/autoencoder", home / "media/red.mp4")
    run("evaluate", home / "run")
    assert "training data" in capsys.readouterr().out


def test_evaluate_measures_what_a_model_can_do(home: Path, capsys: Any):
    out, page = home / "suite.json", home / "suite.md"
    few = ("--samples", "2", "--steps", "1", "--size", "3x32x32")
    made = ("--json-out", out, "--markdown-out", page, "--keep", home / "clips")
    run("evaluate", "--suite", "text,objects", *few, *made)
    assert {file.name.split("-")[0] for file in (home / "clips").iterdir()} == {"text", "objects"}
    found = json.loads(out.read_text())
    assert found["samples"] == 2 and {row["suite"] for row in found["rows"]} == {"text", "objects"}
    (row,) = (
        row for row in found["rows"] if (row["suite"], row["metric"]["name"]) == ("text", "place")
    )
    assert {"model", "codec", "ceiling", "crossed", "frozen", "shuffled"} <= row["arms"].keys()
    assert "| text | place" in page.read_text() and "| text | place" in capsys.readouterr().out
    # A frozen generator reconstructs files too; it has no data of its own.
    run("evaluate", SHIPPED, home / "media/red.mp4", "--json-out", out)
    found = json.loads(out.read_text())
    assert len(found["files"]) == 1 and found["losses"]
    assert "name FILES" in fails(capsys, "evaluate", SHIPPED)
    assert "name a CHECKPOINT before it" in fails(capsys, "evaluate", home / "media/red.mp4")
    assert "seed is -1" in fails(capsys, "evaluate", "--suite", "text", "--seed", "-1")


def test_describe_tells_of_data_and_of_worlds(home: Path, capsys: Any):
    run("describe", home / "media")
    told = capsys.readouterr().out
    assert "broken.mp4" in told and "red.mp4" in told
    sheet = ("--sheet", home / "worlds.png")
    run("describe", "worlds", "--json-out", home / "worlds.json", *sheet)
    assert json.loads((home / "worlds.json").read_text())["clips"]
    assert read_clip(home / "worlds.png").shape[0] == 1
    assert "experiment" in fails(capsys, "describe", "experiments/video/first.py", *sheet)


def test_describe_fits_its_boxes_to_long_and_large_clips(tmp_path: Path, capsys: Any):
    frames = np.random.default_rng(0).integers(0, 255, (40, 96, 160, 3), np.uint8)
    write_video(tmp_path / "long.mp4", frames, fps=8)
    for tokens in ("64", "256", "4096"):
        run("describe", tmp_path, "--tokens", tokens)
        assert "long.mp4" in capsys.readouterr().out


def test_describe_exits_with_1_if_nothing_is_usable(home: Path, capsys: Any):
    (home / "empty").mkdir()
    assert "no usable clip" in fails(capsys, "describe", home / "empty")


@pytest.mark.parametrize(
    "autoencoder",
    ["run/autoencoder", pytest.param("run/transformer/autoencoder", marks=pytest.mark.slow)],
)
def test_encode_makes_latents_with_a_run_or_a_frozen_autoencoder(
    home: Path, tmp_path: Path, autoencoder: str
):
    run("encode", home / autoencoder, home / "media", "--out", tmp_path / "latents")
    opened = LatentClips(path=str(tmp_path / "latents"), workers=0).open()
    assert opened.shapes
    _, known = read_frozen(home / "run/transformer/autoencoder")
    _, copied = read_frozen(tmp_path / "latents/autoencoder")
    assert np.array_equal(copied["encoder"]["in"]["kernel"], known["encoder"]["in"]["kernel"])


def test_latents_made_otherwise_are_refused_by_field(home: Path, tmp_path: Path):
    shutil.copytree(home / "run", tmp_path / "run")
    autoencoder, latents, transformer = stages(home / "media")
    faster = dataclasses.replace(latents, data=dataclasses.replace(latents.data, fps=4.0))
    with pytest.raises(CheckpointError, match=r"encode.data.fps: None became 4.0"):
        run_stages((autoencoder, faster, transformer), tmp_path / "run")
    # As if the autoencoder had been trained further.
    steps = tmp_path / "run/autoencoder/checkpoints"
    (steps / "2").rename(steps / "3")
    with pytest.raises(CheckpointError, match=r"autoencoder.step: '2' became '3'"):
        run_stages((latents,), tmp_path / "run")


@pytest.mark.slow
def test_latents_are_measured_over_as_many_steps_as_asked(home: Path, tmp_path: Path):
    _, encode, _ = stages(home / "media")
    (box,) = encode.data.buckets
    data = dataclasses.replace(encode.data, buckets=(dataclasses.replace(box, batch=1),))
    means = []
    for steps in (None, 1, 2):
        stage = dataclasses.replace(
            encode,
            name=f"latents_{steps}",
            autoencoder=str(home / "run/autoencoder"),
            data=data,
            measure_steps=steps,
        )
        run_stages((stage,), tmp_path)
        _, params = read_frozen(tmp_path / stage.name / "autoencoder")
        means.append(params["latent_mean"])
    # A program that was compiled and one that was found in the cache may differ by rounding.
    assert np.allclose(means[0], means[2], rtol=1e-5)
    assert not np.allclose(means[0], means[1], rtol=1e-3)


def test_latents_cannot_be_measured_over_nothing(home: Path):
    with pytest.raises(ValueError, match="measure_steps is 0"):
        dataclasses.replace(stages(home / "media")[1], measure_steps=0)


def test_an_interrupted_encoding_keeps_what_it_measured(home: Path, tmp_path: Path):
    shutil.copytree(home / "run", tmp_path / "run")
    own = tmp_path / "run/latents/autoencoder/weights.safetensors"
    (manifest,) = (tmp_path / "run/latents").glob("manifest-*.json")
    whole, before = manifest.read_bytes(), own.stat().st_mtime_ns
    manifest.unlink()
    run_stages(stages(home / "media")[:2], tmp_path / "run")
    assert own.stat().st_mtime_ns == before
    assert manifest.read_bytes() == whole


def test_a_notice_ends_an_encoding_that_goes_on_later(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (encode,) = (each for each in stages(home / "media") if isinstance(each, Encode))
    encode = dataclasses.replace(encode, autoencoder=str(home / "run/autoencoder"))
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Notice, "reached", lambda notice: True)
    with pytest.raises(SystemExit) as ended:
        run_stages((encode,), tmp_path)
    assert ended.value.code == 75 and signal.getsignal(signal.SIGTERM) is handler
    assert not list((tmp_path / "latents").glob("manifest-*.json"))
    monkeypatch.undo()
    run_stages((encode,), tmp_path)
    (made,), (whole,) = (
        [path.read_bytes() for path in folder.glob("manifest-*.json")]
        for folder in (tmp_path / "latents", home / "run/latents")
    )
    assert made == whole


def test_of_few_rows_as_many_devices_encode_as_can(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    encode = dataclasses.replace(
        stages(home / "media")[1],
        autoencoder=str(home / "run/autoencoder"),
        mesh=Mesh(data=1, fsdp=-1),
    )
    run_stages((encode,), tmp_path)
    count = jax.local_device_count()
    assert count == 1 or f"2 of the {count} devices of this process take part" in caplog.text
    assert list((tmp_path / "latents").glob("manifest-*.json"))


def test_a_transformer_is_not_joined_to_another_autoencoder(home: Path, tmp_path: Path):
    shutil.copytree(home / "run", tmp_path / "run")
    weights = tmp_path / "run/latents/autoencoder/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"    ")
    with pytest.raises(CheckpointError, match="is another model than"):
        run_stages(stages(home / "media"), tmp_path / "run")


def test_encode_refuses_what_does_not_encode(home: Path, tmp_path: Path, capsys: Any):
    message = fails(
        capsys, "encode", home / "run/transformer", home / "media", "--out", tmp_path / "latents"
    )
    assert "name the run of an autoencoder" in message


def test_the_help_names_every_suite():
    told = " ".join((cli.evaluate.__doc__ or "").split())
    assert f"or all: {', '.join(SUITES)}." in told


def test_mistakes_in_the_size_of_suites_are_told(home: Path, capsys: Any):
    suite = ("--suite", "text")
    assert "17x64x64" in fails(capsys, "evaluate", *suite, "--size", "17x64", home / "run")
    assert "start at 1" in fails(capsys, "evaluate", *suite, "--size", "0x64x64", home / "run")


def test_mistakes_in_generate_are_told(home: Path, capsys: Any):
    checkpoint = ("--checkpoint", home / "run")
    assert "no prompt" in fails(capsys, "generate", *checkpoint)
    assert "no folder" in fails(capsys, "generate", "x", "--checkpoint", home / "nothing")
    assert "cannot generate" in fails(
        capsys, "generate", "x", "--checkpoint", home / "run/autoencoder"
    )
    missing = home / "missing/clip.mp4"
    assert str(missing) in fails(capsys, "generate", "x", *checkpoint, "--out", missing)
    assert "no ending" in fails(capsys, "generate", "x", *checkpoint, "--out", "clip")
    huge = ("--height", "200000", "--width", "200000")
    assert "needs about" in fails(capsys, "generate", "x", *checkpoint, *huge)
    with pytest.raises(ValueError, match="empty list"):
        sora_jax.load(home / "run").generate([])
    with pytest.raises(ValueError, match="impossible"):
        sora_jax.load(home / "run").generate("x", frames=0)


def test_a_damaged_or_poisoned_checkpoint_is_named(home: Path):
    copy = home / "damaged"
    shutil.copytree(home / "run/transformer", copy)
    for file in (copy / "checkpoints/2/ema").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="checkpoints/2 cannot be read"):
        sora_jax.load(copy)
    weights = home / "run/transformer/autoencoder/weights.safetensors"
    poisoned = home / "poisoned"
    shutil.copytree(home / "run/transformer", poisoned)
    data = bytearray(weights.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()
    (poisoned / "autoencoder/weights.safetensors").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="not finite"):
        sora_jax.load(poisoned)


def test_data_that_does_not_suit_the_objective_is_refused_by_field(home: Path):
    last = stages(home / "media")[2]
    objective = dataclasses.replace(last.objective, factor=Size(4, 8, 8))
    with pytest.raises(PlanError, match=r"objective\.factor is 4x8x8 and the latents have 1x8x8"):
        run_stages((dataclasses.replace(last, objective=objective),), home / "run")
