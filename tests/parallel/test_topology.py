"""Slices by name; and, where libtpu is installed, programs compiled for them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sora_jax import config
from sora_jax.arrays import Size
from sora_jax.cli.compiling import remedy, render
from sora_jax.compilation import search
from sora_jax.meshes import guess, guesses
from sora_jax.models.dit import PRESETS
from sora_jax.parallel.mesh import Mesh
from sora_jax.parallel.topology import CHIPS, Slice, TopologyError, set_flags, slice_of
from sora_jax.plans import Plan
from sora_jax.stages import override
from sora_jax.training.train import Train


def test_a_slice_is_named_by_its_chip_and_sides() -> None:
    assert Slice("v5p:4x4x8").sides == (4, 4, 8)
    assert Slice("v6e:16x16", 2).chip.flops == 918e12
    for wrong in ("v6e", "v9:4x4", "v6e:16", "v6e:axb", ""):
        with pytest.raises(TopologyError, match="v6e:16x16 or v5p:4x4x4"):
            Slice(wrong)


def test_an_exchange_takes_the_links_of_the_sides_that_its_devices_span() -> None:
    on, link = Slice("v5p:4x4x4"), 100e9  # six links of a chip carry 600 GB/s
    for devices, sides in ((4, 1), (16, 2), (64, 3), (5, 2)):
        assert on.seconds("all-gather", devices, 1e9) == pytest.approx(1e9 / (2 * sides * link))
    # Of b bytes among n in a ring, each link carries b n / 8: what is sent is b (n - 1) / n.
    ring = Slice("v6e:16x16")
    assert ring.seconds("all-to-all", 8, 7 / 8 * 1e9) == pytest.approx(1e9 / link)
    assert on.seconds("all-to-all", 2, 1e9) == on.seconds("all-gather", 2, 1e9)
    assert on.seconds("collective-permute", 4, 1e9) == pytest.approx(1e9 / link)
    assert on.seconds("all-reduce", 1, 0.0) == 0.0


def test_the_compiler_s_flags_are_set_once_and_those_of_the_user_come_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_enable_async_all_gather=false")
    set_flags()
    flags = os.environ["LIBTPU_INIT_ARGS"].split()
    assert len(flags) > 5 and flags[-1] == "--xla_enable_async_all_gather=false"
    set_flags()
    assert os.environ["LIBTPU_INIT_ARGS"].split() == flags


def test_real_devices_are_recognised_as_the_slice_that_they_make_up() -> None:
    def devices(kind: str, *sides: int, slices: int = 1) -> list[Any]:
        x, y, z = sides
        return [
            SimpleNamespace(device_kind=kind, coords=(i, j, k), slice_index=number)
            for number in range(slices)
            for i in range(x)
            for j in range(y)
            for k in range(z)
        ]

    assert slice_of(devices("TPU v6 lite", 4, 8, 1)) == Slice("v6e:4x8")
    assert slice_of(devices("TPU v5", 2, 2, 4, slices=2)) == Slice("v5p:2x2x4", 2)
    assert slice_of(devices("cpu", 2, 1, 1)) is None


def test_the_search_never_prefers_a_mesh_that_is_modelled_to_be_slower() -> None:
    model, latent = PRESETS["14B"](dtype="bfloat16"), Size(21, 90, 160)
    settings: dict[str, Any] = {"rows": 64, "text": 512, "moments": 8, "on": Slice("v6e:16x16")}
    found = guesses(model, latent, **settings)
    assert all(each.bytes < CHIPS["v6e"].hbm for each in found)
    fitting = []
    for fsdp, sequence, tensor in ((64, 4, 1), (32, 8, 1), (64, 2, 2), (16, 8, 2), (64, 1, 4)):
        for remat in ("none", "save_attention", "full"):
            mesh = Mesh(data=1, fsdp=fsdp, sequence=sequence, tensor=tensor)
            each = guess(model, latent, mesh=mesh, remat=remat, **settings)
            fitting += [each] if each.bytes < 0.9 * CHIPS["v6e"].hbm else []
    assert fitting and all(found[0].step <= each.step for each in fitting)
    # Twice the chips halve what each computes, and what it keeps of the activations.
    few, many = (
        guess(model, latent, mesh=Mesh(data=1, fsdp=f, sequence=4), remat="full", **settings)
        for f in (32, 64)
    )
    assert few.seconds["compute"] == pytest.approx(2 * many.seconds["compute"])
    assert few.bytes > 1.5 * many.bytes


def test_where_nothing_fits_by_formulas_the_smallest_are_asked_of_xla() -> None:
    model, latent = PRESETS["14B"](dtype="bfloat16"), Size(21, 90, 160)
    settings: dict[str, Any] = {"rows": 1, "text": 512, "moments": 8}
    found = guesses(model, latent, on=Slice("v5p:2x2x1"), **settings)
    assert found[0].bytes > 0.9 * CHIPS["v5p"].hbm and found[0].remat == "offload"
    assert [each.bytes for each in found] == sorted(each.bytes for each in found)
    assert not guesses(model, latent, on=Slice("v5p:2x1x1"), **settings)


@pytest.mark.parametrize(
    ("held", "remat", "refused", "told"),
    [
        ((60, 50), "full", "", "raise --fsdp"),
        ((10, 95), "none", "", "remat to full"),
        ((10, 95), "blocks", "", "raise --fsdp"),
        ((10, 95), "full", "Ran out of memory in memory space hbm", "raise --sequence"),
        ((10, 0), "full", "Mosaic failed: memory space vmem", "does not compile"),
    ],
)
def test_the_remedy_is_that_of_what_does_not_fit(
    held: tuple[int, int], remat: Any, refused: str, told: str
) -> None:
    plan = Plan(
        stage="transformer",
        bucket="1x16x16",
        batch=1,
        tokens=1,
        chips=1,
        mesh="",
        remat=remat,
        bytes=dict(zip(("parameters", "temporary"), held, strict=True)),
        hbm=100,
        flops=1.0,
        exchanged=(),
        kernels=(),
        seconds={},
        compiled_in=1.0,
        refused=refused,
    )
    assert not plan.fits and told in remedy(plan) and told in render([plan]).replace("\n", " ")


EXPERIMENTS = Path(__file__).parents[2] / "experiments"
BENCHMARK = EXPERIMENTS / "benchmarks/topologies.py"
# One clip on four chips is what others have measured: no mesh is listed for it.
LISTED = {str(case): case for case in runpy.run_path(str(BENCHMARK))["CASES"] if case.clips != 1}


def keeps_its_promises(plan: dict[str, Any], case: Any) -> None:
    assert plan["fits"] and not plan["refused"]
    assert sum(plan["bytes"].values()) <= plan["hbm"]
    assert any("splash" in kernel for kernel in plan["kernels"]) and not plan["dense"]
    assert not plan["stacks"]
    # Nothing as large as all activations goes from device to device but through all-to-alls.
    (train,) = (
        s for s in config.read_experiment(EXPERIMENTS / case.file) if s.name == plan["stage"]
    )
    model = train.objective.model
    ways = dict(part.split("=") for part in plan["mesh"].split())
    shared = plan["tokens"] // int(ways["fsdp"]) * model.width * 2 * model.depth
    among = int(ways.get("sequence", 1))
    gathered = [
        each["sent"]
        for each in plan["exchanged"]
        if each["kind"] == "all-gather" and each["devices"] == among > 1
    ]
    assert sum(gathered) < shared


@pytest.mark.parametrize("name", LISTED)
def test_plans_that_were_compiled_keep_their_promises(name: str) -> None:
    (plan,) = json.loads(LISTED[name].path("listed", BENCHMARK.with_name("plans")).read_text())
    keeps_its_promises(plan, LISTED[name])


def test_a_search_over_several_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="one slice, not 2"):
        search((), Slice("v5e:2x2", 2))


TINY = """
from sora_jax.data.buckets import Bucket
from sora_jax.data.captions import Bytes
from sora_jax.data.folder import Folder
from sora_jax.data.latents import LatentClips
from sora_jax.data.pipeline import Clips
from sora_jax.models.block_vae import BlockVAE
from sora_jax.models.dit import DiT
from sora_jax.models.text import ByteEncoder
from sora_jax.objectives.autoencoding import Autoencoding
from sora_jax.objectives.denoising import Denoising
from sora_jax.parallel.mesh import Mesh
from sora_jax.training.encoding import Encode
from sora_jax.training.train import Train

TEXT = Bytes(length=16)
experiment = (
    Train(
        name="autoencoder",
        objective=Autoencoding(
            # Of few convolutions: XLA takes long to compile each.
            vae=BlockVAE(width=128, hidden=128, blocks=1, dtype="bfloat16", remat="blocks"),
        ),
        data=Clips(
            source=Folder(path="clips"),
            buckets=(Bucket(frames=9, height=64, width=64, batch=4),),
            tokenizer=TEXT,
        ),
        steps=10,
        mesh=Mesh(data=1, fsdp=4),
    ),
    Encode(
        name="latents",
        autoencoder="{out}/autoencoder",
        data=Clips(
            source=Folder(path="clips"),
            buckets=(Bucket(frames=17, height=256, width=256, batch=ROWS),),
            tokenizer=TEXT,
        ),
    ),
    Train(
        name="transformer",
        objective=Denoising(
            model=DiT(
                width=256, depth=3, heads=2, mlp=512, text_width=64, dtype="bfloat16", remat="full"
            ),
            text=ByteEncoder(width=64, depth=1, heads=1, length=16),
        ),
        data=LatentClips(path="{out}/latents", tokenizer=TEXT),
        steps=10,
        meshes={"v5e:2x2": Mesh(data=1, fsdp=2, sequence=2)},
    ),
)
smoke = experiment
"""

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs pip install "jax[tpu]"'
)


def compiled(
    tmp_path: Path, *flags: str, rows: int = 4, bucket: str = "17x256x256"
) -> tuple[int, list[dict[str, Any]], str]:
    """The exit code of `sora-jax compile`, its plans of a bucket and what it says."""
    (tmp_path / "tiny.py").write_text(TINY.replace("ROWS", str(rows)))
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "sora_jax", "compile", "tiny.py", "--topology", "v5e:2x2"),
            *("--buckets", bucket, "--json-out", "plans.json", *flags),
        ],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        capture_output=True,
        text=True,
    )
    plans = tmp_path / "plans.json"
    return (
        ended.returncode,
        json.loads(plans.read_text()) if plans.exists() else [],
        ended.stdout + ended.stderr,
    )


@needs_libtpu
@pytest.mark.slow
def test_a_step_is_compiled_for_a_slice_that_is_not_there(tmp_path: Path) -> None:
    code, (plan,), told = compiled(tmp_path)
    assert code == 0 and plan["fits"] and plan["mesh"] == "fsdp=2 sequence=2"
    assert any("splash" in kernel for kernel in plan["kernels"]) and "splash" in told
    kinds = {row["kind"] for row in plan["exchanged"]}
    assert {"all-gather", "all-to-all"} <= kinds
    # A layer's parameters are gathered when it is its turn: never the stack of all of them.
    assert plan["stacks"] == [] and "all layers gathered at once" not in told
    assert plan["dense"] == []
    assert plan["bytes"]["parameters"] > 0 and plan["bytes"]["temporary"] > 0
    assert plan["bound"] in ("compute", "memory", "exchange")


@needs_libtpu
@pytest.mark.slow
def test_a_step_of_an_autoencoder_is_compiled_too(tmp_path: Path) -> None:
    code, (plan,), _ = compiled(tmp_path, bucket="9x64x64")
    assert (
        code == 0 and plan["fits"] and plan["stage"] == "autoencoder" and plan["mesh"] == "fsdp=4"
    )
    assert plan["remat"] == "blocks" and plan["recomputed"] > 0
    assert plan["tokens"] == 4 * 3 * 8 * 8 and {row["kind"] for row in plan["exchanged"]}


@needs_libtpu
@pytest.mark.slow
def test_a_step_is_compiled_for_slices_that_are_joined(tmp_path: Path) -> None:
    code, (plan,), _ = compiled(tmp_path, "--slices", "2")
    assert code == 0 and plan["fits"] and plan["chips"] == 8
    assert plan["mesh"] == "slices=2 fsdp=2 sequence=2" and plan["stacks"] == []


@needs_libtpu
@pytest.mark.slow
def test_a_step_that_does_not_fit_is_refused_with_the_remedy(tmp_path: Path) -> None:
    code, (plan,), told = compiled(tmp_path, "--fsdp", "4", "--sequence", "1", rows=4096)
    assert code == 1 and not plan["fits"]
    assert "does not fit" in told and "raise --sequence" in told


@needs_libtpu
@pytest.mark.slow
def test_block_inputs_in_the_host_s_memory_take_none_of_the_chip_s(tmp_path: Path) -> None:
    model = "--transformer.objective.model"
    deep = ("--fsdp", "4", "--sequence", "1", f"{model}.depth", "16")
    temporary = {}
    for remat in ("none", "full", "offload"):
        _, (plan,), _ = compiled(tmp_path, *deep, f"{model}.remat", remat, rows=64)
        temporary[remat] = plan["bytes"]["temporary"]
    # Of each clip on this chip: the inputs, 256 wide, of 16 blocks of 1280 tokens in 16 bits.
    inputs = 16 * 16 * 1280 * 256 * 2
    assert temporary["none"] > temporary["full"] + 2 * inputs
    assert temporary["full"] - temporary["offload"] > 0.5 * inputs


@needs_libtpu
@pytest.mark.slow
def test_a_search_names_a_mesh_that_fits(tmp_path: Path) -> None:
    code, plans, told = compiled(tmp_path, "--search")
    assert code == 0 and "trying" in told
    *compared, found = plans
    # What is found is not slower than all along fsdp, with what it keeps or with the least.
    assert [each["remat"] for each in compared] == list(dict.fromkeys(("full", found["remat"])))
    for each in compared:
        assert each["mesh"] == "fsdp=4"
        assert max(found["seconds"].values()) <= max(each["seconds"].values())


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_the_runs_that_are_listed_are_compiled_for_their_slices(tmp_path: Path, name: str) -> None:
    _, *command = LISTED[name].command("listed", tmp_path)
    ended = subprocess.run(
        [sys.executable, "-m", "sora_jax", *command],
        cwd=EXPERIMENTS.parent,
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (plan,) = json.loads(LISTED[name].path("listed", tmp_path).read_text())
    keeps_its_promises(plan, LISTED[name])


def test_without_libtpu_the_remedy_is_told(tmp_path: Path) -> None:
    if importlib.util.find_spec("libtpu"):
        pytest.skip("libtpu is installed")
    code, _, told = compiled(tmp_path)
    assert code == 1 and 'pip install "jax[tpu]"' in told


def test_a_mesh_for_a_slice_takes_the_place_of_the_run_s_own() -> None:
    from tests.training.test_loop import toy

    train = toy(meshes={"v6e:4x4": Mesh(data=1, fsdp=16)})
    assert train.on("v6e:4x4").mesh == Mesh(data=1, fsdp=16)
    assert train.on("v5e:4x4").mesh == train.mesh


def test_what_is_kept_on_a_slice_is_that_which_is_listed_or_given(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY.replace("ROWS", "4"))
    stages = config.read_experiment(str(tmp_path / "tiny.py"))
    listed = tuple(
        dataclasses.replace(stage, remats={"v5e:2x2": "none"})
        if isinstance(stage, Train) and stage.name == "transformer"
        else stage
        for stage in stages
    )
    *_, train = override(listed, [], program="test")
    assert train.on("v5e:2x2").objective.remat == "none"
    assert train.on("v5e:4x4").objective.remat == "full"
    flags = ["--transformer.objective.model.remat", "offload"]
    *_, train = override(listed, flags, program="test")
    assert train.on("v5e:2x2").objective.remat == "offload"


def test_several_slices_and_the_command_line_change_the_mesh_that_is_listed() -> None:
    from tests.training.test_loop import toy

    train = toy(meshes={"v6e:4x4": Mesh(data=1, fsdp=8, sequence=2)})
    assert train.on("v6e:4x4", 4).mesh == Mesh(slices=4, data=1, fsdp=8, sequence=2)
    flags = ["--mesh.sequence", "4", "--mesh.fsdp", "4"]
    (changed,) = override((train,), flags, program="test")
    assert changed.on("v6e:4x4").mesh == Mesh(data=1, fsdp=4, sequence=4)
    assert override((train,), [], program="test") == (train,)
