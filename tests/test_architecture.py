"""The rules of the architecture, held as tests: who may import whom, and names that are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sora_jax"
EVERYTHING = {"*"}

# Which parts of sora_jax each part may import, beside itself.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": {"generation"},
    "__main__": {"cli"},
    "arrays": set(),
    "config": set(),
    "checkpoint": {"arrays", "config", "files"},
    "frozen": {"config", "checkpoint"},
    "files": set(),
    "data": {"arrays", "files"},
    "models": {"arrays"},
    "diffusion": {"arrays"},
    "parallel": {"arrays"},
    "objectives": {"arrays", "models", "diffusion"},
    "importers": {"arrays", "models", "diffusion", "objectives", "checkpoint"},
    "generation": {
        "__init__",
        "arrays",
        "files",
        "models",
        "diffusion",
        "checkpoint",
        "frozen",
        "parallel",
        "data.video",
        "data.captions",
        "data.framing",
    },
    "evaluation": {
        "arrays",
        "files",
        "models",
        "diffusion",
        "objectives",
        "checkpoint",
        "frozen",
        "generation",
        "parallel",
        "data",
    },
    "baselines": {"arrays", "models", "diffusion", "objectives"},
    "training": {"arrays", "config", "files", "checkpoint", "frozen", "parallel"},
    "stages": EVERYTHING,
    "description": EVERYTHING,
    "compilation": EVERYTHING,
    "meshes": EVERYTHING,
    "plans": {"parallel"},
    "cli": EVERYTHING,
}

MEANINGLESS = {
    "base",
    "common",
    "factory",
    "handler",
    "helper",
    "helpers",
    "lib",
    "manager",
    "misc",
    "util",
    "utils",
    "wrapper",
}

FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported(path: Path) -> set[str]:
    """The modules of sora_jax that a file imports, anywhere in it: `data.video`, `arrays`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sora_jax":
            module = str(node.module).removeprefix("sora_jax").lstrip(".")
            names = {f"{module}.{alias.name}".lstrip(".") for alias in node.names}
            found |= names if module == "" else {module}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("sora_jax").lstrip(".") or "__init__"
                for alias in node.names
                if alias.name.split(".")[0] == "sora_jax"
            }
    return {name for name in found if name}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path: Path):
    allowed = MAY_IMPORT[part(path)]
    if allowed == EVERYTHING:
        return
    for module in imported(path):
        top = module.split(".")[0]
        fine = top == part(path) or top in allowed
        fine = fine or any(module == a or module.startswith(a + ".") for a in allowed)
        assert fine, f"{path.relative_to(ROOT)} imports sora_jax.{module}; see MAY_IMPORT"


def test_experiments_import_neither_the_command_line_nor_the_page():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not imported(path) & {"cli", "web", "__main__"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_of_files_say_what_is_in_them(path: Path):
    assert path.stem not in MEANINGLESS


def test_every_module_says_what_it_is():
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_loader_workers_import_no_model_code():
    code = (
        "import sys, sora_jax.data.pipeline, sora_jax.data.latents\n"
        "bad = [m for m in sys.modules if m.startswith(('flax', 'optax', 'tensorflow.'))]\n"
        "bad += [m for m in sys.modules if m.startswith('sora_jax.models')]\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_importing_starts_no_backend():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in FILES
        if path.name not in ("__main__.py", "__init__.py")
    ]
    code = (
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
