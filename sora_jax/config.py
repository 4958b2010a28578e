"""An experiment as a value: read from a Python file, overridden from a command line, kept as JSON.

An experiment file binds the name `experiment` to one frozen dataclass, or to a tuple of them that
run one after the other (each with a `name`), and `smoke` to the same thing made tiny. The JSON form
names each class, `{"class": "sora_jax.models.dit.DiT", "width": 384, ...}`, and reading it back
instantiates classes of sora_jax only, whatever the file says.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import tyro

Stages = tuple[Any, ...]
"""Frozen dataclasses with a `name`, run in this order."""


class ConfigError(ValueError):
    """An experiment cannot be read, written or overridden; the message says which part and why."""


def read_experiment(path: str | Path, *, smoke: bool = False) -> Stages:
    """Returns the stages of the experiment file `path` (its tiny twin if `smoke`).

    Raises ConfigError where the file is missing, fails, or binds no such name.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no experiment file {path}")
    # Experiment files import one another by their path below the folder that holds experiments/.
    roots = [
        str(parent.parent) for parent in path.resolve().parents if parent.name == "experiments"
    ]
    sys.path[:0] = [root for root in roots if root not in sys.path]
    try:
        namespace = runpy.run_path(str(path))
    except Exception as error:
        raise ConfigError(f"{path} failed: {type(error).__name__}: {error}") from error
    name = "smoke" if smoke else "experiment"
    if name not in namespace:
        raise ConfigError(f"{path} binds no `{name}`; an experiment file must")
    value = namespace[name]
    return value if isinstance(value, tuple) else (value,)


def override(stages: Stages, arguments: Sequence[str], *, program: str = "sora-jax") -> Stages:
    """Returns `stages` with the fields that `arguments` name changed: `--objective.model.depth 4`.

    Several stages take the stage's name first: `--transformer.steps 100`. A wrong name ends the
    program with the nearest right one, as tyro does.
    """
    if not arguments:
        return stages
    if len(stages) == 1:
        return (_override(stages[0], arguments, program),)
    together = dataclasses.make_dataclass(
        "Stages", [(stage.name, type(stage)) for stage in stages], frozen=True
    )
    changed = _override(together(*stages), arguments, program)
    return tuple(getattr(changed, stage.name) for stage in stages)


def _override(value: Any, arguments: Sequence[str], program: str) -> Any:
    marked = tyro.conf.AvoidSubcommands[type(value)]
    return tyro.cli(marked, default=value, args=list(arguments), prog=program)


def fields(value: Any) -> Iterator[str]:
    """Names of the constructor arguments of a dataclass, less what Linen adds to a module."""
    hidden = ("parent", "name") if isinstance(value, nn.Module) else ()
    return (f.name for f in dataclasses.fields(value) if f.init and f.name not in hidden)


def to_json(value: Any, *, where: str = "experiment") -> Any:
    """Returns `value` as JSON data that `from_json` turns back into an equal value.

    Dataclasses, Linen modules, named tuples, tuples, dicts with string keys, strings, numbers,
    booleans and None are understood. Raises ConfigError that names the field of anything else.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"{where} is {value}; JSON holds finite numbers only, use None")
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        pairs = zip(getattr(value, "_fields"), value, strict=True)  # noqa: B009
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((name, getattr(value, name)) for name in fields(value))
    elif isinstance(value, tuple):
        return [to_json(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
    elif isinstance(value, Mapping):
        if "class" in value or not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{where}: keys must be strings other than 'class'")
        return {key: to_json(item, where=f"{where}.{key}") for key, item in value.items()}
    else:
        raise ConfigError(f"{where} is a {type(value).__name__}, which an experiment cannot hold")
    kind = type(value)
    if not kind.__module__.startswith("sora_jax."):
        raise ConfigError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}; only classes of sora_jax can be "
            "read back from a checkpoint"
        )
    named = {name: to_json(item, where=f"{where}.{name}") for name, item in pairs}
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **named}


def from_json(data: Any, *, where: str = "experiment") -> Any:
    """Returns the value that `to_json` wrote; instantiates classes of sora_jax and no others.

    Raises ConfigError where a class or a field is not (or no longer) known.
    """
    if isinstance(data, list):
        return tuple(from_json(item, where=f"{where}[{i}]") for i, item in enumerate(data))
    if not isinstance(data, dict):
        return data
    named = {k: from_json(v, where=f"{where}.{k}") for k, v in data.items() if k != "class"}
    if "class" not in data:
        return named
    kind = _class(data["class"], where)
    known = getattr(kind, "_fields", None) or [f.name for f in dataclasses.fields(kind) if f.init]
    if unknown := sorted(set(named) - set(known)):
        raise ConfigError(
            f"{where}: {data['class']} of this version has no field {', '.join(unknown)}; "
            "read it with the version of sora_jax that wrote it"
        )
    try:
        return kind(**named)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {data['class']}: {error}") from error


def _class(path: Any, where: str) -> Any:
    module, _, name = str(path).rpartition(".")
    if not module.startswith("sora_jax."):
        raise ConfigError(f"{where} names the class {path}, which is not one of sora_jax")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: this version of sora_jax has no class {path}") from error
    is_value = isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or issubclass(kind, tuple)
    )
    # A module also holds the names that it imports; those of other packages stay out of reach.
    if not is_value or kind.__module__ != module:
        raise ConfigError(f"{where} names {path}, which is not a value class of sora_jax")
    return kind


def differences(old: Any, new: Any, *, where: str = "") -> list[str]:
    """Lists where two JSON forms differ, one line a field: `data.seed: 0 became 1`.

    A field that the old form does not have, as it is from before there was such a field, has its
    default.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("class") == new.get("class"):
            old = _defaults(new.keys() - old.keys(), new.get("class")) | old
        keys = list(dict.fromkeys([*old, *new]))
        pairs = [(f"{where}.{k}".lstrip("."), old.get(k), new.get(k)) for k in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [f"{where}: {_short(old)} became {_short(new)}"]
    return [line for name, a, b in pairs for line in differences(a, b, where=name)]


def without(form: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A JSON form without some of its fields, such as `mesh` or `data.workers`."""
    result = dict(form)
    for name in names:
        head, _, rest = name.partition(".")
        if not rest:
            result.pop(head, None)
        elif isinstance(result.get(head), dict):
            result[head] = without(result[head], [rest])
    return result


def _defaults(names: Iterable[str], path: Any) -> dict[str, Any]:
    """The JSON forms of the defaults of some fields of a class; none for what is no class."""
    try:
        fields = {field.name: field for field in dataclasses.fields(_class(path, "experiment"))}
    except (ConfigError, TypeError):
        return {}
    found = {}
    for field in (fields[name] for name in names if name in fields):
        if field.default is not dataclasses.MISSING:
            found[field.name] = to_json(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = to_json(field.default_factory())
    return found


def _short(value: Any) -> str:
    text = value["class"] if isinstance(value, dict) and "class" in value else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def place(value: Any, **folders: str) -> Any:
    """Returns `value` with `{out}` (and other named folders) in its strings filled in.

    Stages hand files to one another below the run's folder, which is only known when they run.
    """

    def fill(text: str) -> str:
        for name, folder in folders.items():
            text = text.replace("{" + name + "}", folder)
        return text

    return _map_strings(fill, value)


def _map_strings(change: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        items = [_map_strings(change, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, Mapping):
        return {key: _map_strings(change, item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        old = {name: getattr(value, name) for name in fields(value)}
        new = {name: _map_strings(change, item) for name, item in old.items()}
        # An unchanged value is handed back itself, so that identity survives.
        return value if new == old else dataclasses.replace(value, **new)
    return value
