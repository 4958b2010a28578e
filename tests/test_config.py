"""Promises of experiments as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sora_jax import config
from sora_jax.parallel.mesh import Mesh
from sora_jax.parallel.rules import Rules
from sora_jax.training.optimizer import AdamW, Constant
from sora_jax.training.train import Train
from tests.training.toy import Points, Regression

FILE = """
from sora_jax.training.train import Train
from tests.training.toy import Points, Regression

def stage(name):
    return Train(name=name, objective=Regression(), data=Points(), steps=4)

experiment = (stage("first"), stage("second"))
smoke = stage("tiny")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "an_experiment.py"
    path.write_text(FILE)
    return path


def test_a_value_survives_json_exactly():
    value = AdamW(learning_rate=0.1 + 0.2, schedule=Constant(), apart={"discriminator": 1.5})
    nested = Mesh(fsdp=4, rules=Rules(batch=("data",), embed=None))
    for each in (value, nested, (1, "two", None, True, (3.5,))):
        assert config.from_json(json.loads(json.dumps(config.to_json(each)))) == each


def test_reading_instantiates_only_values_of_sora_jax():
    for path in (
        "os.system",
        "subprocess.Popen",
        "sora_jax.config.ConfigError",
        "sora_jax.config.read_experiment",
        "sora_jax.checkpoint.ocp",
        "sora_jax.data.plan.np.ndarray",
    ):
        with pytest.raises(config.ConfigError, match="class"):
            config.from_json({"class": path})


def test_a_field_of_another_version_is_named():
    data = config.to_json(AdamW()) | {"lookahead": 5}
    with pytest.raises(config.ConfigError, match="AdamW of this version has no field lookahead"):
        config.from_json({"class": "sora_jax.parallel.mesh.Mesh", "rules": data})


def test_what_cannot_be_kept_is_refused_by_field():
    with pytest.raises(config.ConfigError, match=r"experiment\.objective is a tests"):
        config.to_json(Train(name="toy", objective=Regression(), data=Points(), steps=1))
    with pytest.raises(config.ConfigError, match="finite"):
        config.to_json(AdamW(clip=float("inf")))


def test_an_experiment_file_gives_its_stages(file: Path):
    assert [stage.name for stage in config.read_experiment(file)] == ["first", "second"]
    assert [stage.name for stage in config.read_experiment(file, smoke=True)] == ["tiny"]


def test_flags_change_numbers_and_stages_by_name(file: Path):
    stages = config.read_experiment(file)
    changed = config.override(stages, ["--second.optimizer.learning-rate", "0.5"])
    assert [stage.optimizer.learning_rate for stage in changed] == [1e-3, 0.5]
    single = config.override(
        config.read_experiment(file, smoke=True), ["--optimizer.schedule.final", "0.2"]
    )
    assert single[0].optimizer.schedule.final == 0.2


def test_a_typo_is_answered_with_the_nearest_field(file: Path, capsys: Any):
    with pytest.raises(SystemExit):
        config.override(
            config.read_experiment(file, smoke=True), ["--optimizer.learnin-rate", "0.5"]
        )
    assert "--optimizer.learning-rate" in capsys.readouterr().err


def test_bad_files_are_named(tmp_path: Path):
    with pytest.raises(config.ConfigError, match="no experiment file"):
        config.read_experiment(tmp_path / "missing.py")
    (tmp_path / "broken.py").write_text("import nothing_like_this")
    with pytest.raises(config.ConfigError, match=r"broken\.py failed: ModuleNotFoundError"):
        config.read_experiment(tmp_path / "broken.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(config.ConfigError, match="binds no `experiment`"):
        config.read_experiment(tmp_path / "empty.py")


def test_differences_name_fields():
    old = config.to_json(AdamW())
    new = config.to_json(AdamW(clip=2.0, schedule=Constant()))
    assert config.differences(old, old) == []
    lines = config.differences(old, new)
    assert "clip: 1.0 became 2.0" in lines
    assert any(line.startswith("schedule.class: ") for line in lines)


def test_a_field_from_before_its_time_has_its_default():
    old = {k: v for k, v in config.to_json(AdamW()).items() if k not in ("clip", "schedule")}
    assert config.differences(old, config.to_json(AdamW())) == []
    changed = config.differences(old, config.to_json(AdamW(clip=2.0)))
    assert changed == ["clip: 1.0 became 2.0"]


def test_folders_are_filled_in_everywhere():
    value = ({"a": ("{out}/latents", 1)}, AdamW())
    filled = config.place(value, out="runs/x")
    assert filled[0] == {"a": ("runs/x/latents", 1)}
    assert filled[1] is value[1]
