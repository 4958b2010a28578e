"""Caption files beside clips: `NAME.json`, `NAME.txt`, and a `captions.jsonl` in any folder.

NAME is the clip's name without its ending. What the files hold:

    NAME.txt         one caption, line breaks and all
    NAME.json        "caption", ["several", "captions"], or an object with any of the keys
                     `caption`, `short` (both short ones) and `descriptive`, each a text or a list
    captions.jsonl   a line a clip: such an object, with the clip's path from there under `file`

Where several of them caption one clip, the first in this order (json, txt, jsonl) is used.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from etils import epath

from sora_jax.data.datasets import Broken, Caption

Captions = tuple[Caption, ...]

_KINDS: Mapping[str, Literal["short", "descriptive"]] = {
    "caption": "short",
    "short": "short",
    "descriptive": "descriptive",
}

LISTING = "captions.jsonl"


def parse(value: Any) -> Captions:
    """The captions in a JSON value, white space made single. Raises ValueError if it holds none."""
    if not isinstance(value, dict):
        value = {"caption": value}
    if not value.keys() & _KINDS.keys():
        raise ValueError(f"has none of the keys {', '.join(_KINDS)}")
    captions = []
    for key in sorted(value.keys() & _KINDS.keys(), key=list(_KINDS).index):
        texts = value[key] if isinstance(value[key], list) else [value[key]]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"holds {json.dumps(value[key])[:60]}, neither a text nor several")
        captions += [Caption(text=" ".join(text.split()), kind=_KINDS[key]) for text in texts]
    return tuple(caption for caption in captions if caption.text)


def listed(root: epath.Path, names: Iterable[str]) -> tuple[dict[str, Captions], list[Broken]]:
    """What all the `captions.jsonl` among `names` say of each clip, and which lines are no use."""
    captions: dict[str, Captions] = {}
    broken = []
    known = frozenset(names)
    for name in sorted(known):
        if posixpath.basename(name) == LISTING:
            broken += _read_listing(root, name, known, captions)
    return captions, broken


def beside(
    root: epath.Path, clip: str, names: frozenset[str], listing: Mapping[str, Captions]
) -> tuple[Captions, list[Broken]]:
    """The captions of one clip, and what is wrong with its caption files."""
    found: dict[str, Captions] = {}
    broken = []
    stem = posixpath.splitext(clip)[0]
    for name in (f"{stem}.json", f"{stem}.txt"):
        if name in names:
            try:
                found[name] = _read(root / name)
            except (ValueError, OSError) as error:
                reason = f"{_plain(error)}; {clip} is used without it"
                broken.append(Broken(name=name, reason=reason))
    if clip in listing:
        found[LISTING] = listing[clip]
    used, *others = found or [LISTING]
    for name in others:
        if found[name] != found[used]:
            reason = f"{clip} has other captions in {used}, which are used; remove one of the two"
            broken.append(Broken(name=name, reason=reason))
    return found.get(used, ()), broken


def _read(path: epath.Path) -> Captions:
    text = _text(path)
    return parse(json.loads(text) if path.suffix == ".json" else text)


def _text(path: epath.Path) -> str:
    # Windows editors begin a file with a mark that is no part of the text.
    return path.read_bytes().decode("utf-8-sig")


def _read_listing(
    root: epath.Path, name: str, known: frozenset[str], captions: dict[str, Captions]
) -> list[Broken]:
    """Adds the captions of one listing to `captions`."""
    broken = []
    try:
        lines = _text(root / name).splitlines()
    except (ValueError, OSError) as error:
        return [Broken(name=name, reason=_plain(error))]
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                clip, found = _read_line(line, posixpath.dirname(name), known)
                captions[clip] = captions.get(clip, ()) + found
        except ValueError as error:
            broken.append(Broken(name=f"{name}:{number}", reason=_plain(error)))
    return broken


def _read_line(line: str, folder: str, known: frozenset[str]) -> tuple[str, Captions]:
    value = json.loads(line)
    if not isinstance(value, dict) or not isinstance(value.get("file"), str):
        raise ValueError("is no object with a path under the key file")
    clip = posixpath.normpath(posixpath.join(folder, value["file"]))
    if clip not in known:
        raise ValueError(f"captions {value['file']}, which is not there")
    return clip, parse(value)


def _plain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is no JSON: {error}"
    if isinstance(error, UnicodeDecodeError):
        return f"is not in UTF-8: {error.reason} at byte {error.start}"
    return str(error)
