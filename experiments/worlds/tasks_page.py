"""The page of `tasks.py`: its table, its sheets, and what of it is of an earlier run."""

import json
from pathlib import Path
from typing import Any

ABOUT = """`python experiments/worlds/tasks.py --scenes {scenes}`: clips of {size} pixels of one
sprite, {steps} steps, guidance {guidance}; loops of clips and connect without a prompt. Wide and
tall sizes, and the diversity of beginnings, are of {few} clips. Means with their 95 % intervals;
beside the model, what real clips have, the autoencoder's reconstructions, and a hard cut, a
cross-fade and a frozen frame. The number behind `edit` and `connect` is a strength; of connect
these three show what truly follows the first clip and comes before the second, cut in the middle or
fading evenly, or hold the first one's last frame until the second begins. What is measured is told
at the head of the script.

A sheet shows what was made, one clip below the other, nine frames of each (of images, their one),
under the caption of the clip that was given or of what was asked for: of edits, retakes and connect
that of the (first) clip. Sheets of beginnings show one ending that was begun three times.
"""


def earlier(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run measured of other tasks, if by the same model, settings and code."""
    if file.exists():
        kept = json.loads(file.read_text())
        if kept.get("about") == about:
            return kept["tasks"]
    return {}


def table(found: dict[str, Any]) -> str:
    heads = ("model", "real", "codec", "cut", "fade", "frozen", "shuffled")
    lines = [f"| task | measure | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    known = found.values()
    for row in (row for task in known for row in task["rows"]):
        cells = [
            "{:.2f} ({:.2f} to {:.2f})".format(*row[head]) if head in row else "" for head in heads
        ]
        lines.append(f"| {row['task']} | {row['measure']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(note for task in known for note in task["notes"])])


def write(out: Path, source: str, about: dict[str, Any], found: dict[str, Any]) -> None:
    """The page, of the tasks so far."""
    drawn = (sheet for task in found.values() for sheet in task["sheets"])
    sheets = "\n".join(
        f"\n## {Path(name).stem.replace('_', ' ').capitalize()}\n\n![{Path(name).stem}]({name})"
        for name in drawn
    )
    spent = {name: task["seconds"] for name, task in found.items()}
    each = ", ".join(f"{name} {seconds}" for name, seconds in spent.items())
    (out / "tasks.md").write_text(
        f"# The tasks of {source}\n\n{ABOUT.format(**about)}\n"
        f"Seconds of a process: {each}; {sum(spent.values())} in all.\n\n{table(found)}\n{sheets}\n"
    )
