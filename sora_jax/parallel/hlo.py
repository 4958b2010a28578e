"""What XLA made of a program, read from its text: collectives with their bytes, and kernels.

A loop's body is counted as often as it runs (a scan over layers stands in the text once), by the
constant that the loop's condition compares with.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

_SCATTERED = "all-reduce-scatter"
"""What XLA calls fusions of a sum and the part of it that a device keeps."""

_PADDED = 1024
"""Tokens that kernels pad up to."""

_BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8}

_HEAD = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(
    r"= (?P<type>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(?P<start>-start)?\("
)
_SHAPE = re.compile(r"(?P<type>[a-z]+\d*\w*)\[(?P<sides>[\d,]*)\]")
_WHILE = re.compile(r" while\(.*condition=%?(?P<condition>[\w.\-]+), body=%?(?P<body>[\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
    """One kind of exchange among so many devices: how often in a step, and bytes a device sends."""

    kind: str
    devices: int
    times: int
    sent: int


def collectives(text: str) -> list[Collective]:
    """Returns what devices exchange in one run of a program, most bytes first."""
    bodies = _computations(text)
    times: collections.Counter[tuple[str, int]] = collections.Counter()
    sent: collections.Counter[tuple[str, int]] = collections.Counter()
    for name, runs in _runs(bodies).items():
        for line in bodies[name]:
            found = _COLLECTIVE.search(line)
            if found is None:
                continue
            devices, kind = _devices(line), found["kind"]
            # On TPUs sums of which each device keeps a part are a fusion of the sum and its part.
            scattered = kind == "all-reduce" and name.startswith(_SCATTERED)
            key = "reduce-scatter" if scattered else kind, devices
            times[key] += runs
            # What begins an exchange has a pair: what goes in, and what comes out.
            pair = bool(found["start"]) and kind in ("all-gather", "collective-permute")
            result = _bytes(_parts(found["type"])[1] if pair else found["type"])
            result = result // devices if scattered else result
            sent[key] += runs * _sent(key[0], result, devices)
    rows = [Collective(kind, n, times[kind, n], sent[kind, n]) for kind, n in times]
    return sorted((row for row in rows if row.devices > 1), key=lambda row: -row.sent)


def gathered(text: str) -> set[tuple[int, ...]]:
    """Returns the shapes of arrays that devices gather from the parts of each, or sum: XLA gathers
    by summing too, each device's part among zeros."""
    shapes = set()
    for name, lines in _computations(text).items():
        if name.startswith(_SCATTERED):
            continue
        for line in lines:
            found = _COLLECTIVE.search(line)
            if found and found["kind"] in ("all-gather", "all-reduce"):
                shapes |= {_sides(shape["sides"]) for shape in _SHAPE.finditer(found["type"])}
    return shapes


def dense(text: str, tokens: int, *, widths: Collection[int] = ()) -> set[tuple[int, ...]]:
    """Returns the shapes of arrays with a number for each pair of `tokens`, of which kernels may
    pad some: two sides alike, as plain attention has them. Of sides that parameters have, `widths`,
    nothing can be told."""
    pairs = set()
    for sides in {_sides(found["sides"]) for found in _SHAPE.finditer(text)}:
        like = [s for s in sides if tokens <= s < tokens + _PADDED and s not in widths]
        if any(like.count(side) > 1 for side in like):
            pairs.add(sides)
    return pairs


def kernels(text: str) -> set[str]:
    """Returns the names of the kernels in a program, without the numbers that XLA adds."""
    names = re.findall(r"%([a-zA-Z_]\w*?)[.\d]* = .*custom_call_target=\"tpu_custom_call\"", text)
    targets = re.findall(r"custom_call_target=\"(__cudnn\$\w+)", text)
    return {*names, *targets}


def _sent(kind: str, result: int, devices: int) -> int:
    """Bytes that a device sends, from those of the result that it has afterwards."""
    share = (devices - 1) / devices
    return int(
        {
            "all-gather": result * share,
            "all-reduce": 2 * result * share,
            "reduce-scatter": result * (devices - 1),
            "all-to-all": result * share,
            "collective-permute": result,
        }[kind]
    )


def _bytes(of: str) -> int:
    """Of a type's text; of a tuple, of all of it."""
    total = 0
    for found in _SHAPE.finditer(of):
        width = _BYTES.get(found["type"])
        if width is None:
            width = max(1, int(re.sub(r"\D", "", found["type"]) or 8) // 8)
        total += width * math.prod(_sides(found["sides"]))
    return total


def _parts(of: str) -> list[str]:
    """The elements of a tuple's text, which may be tuples themselves."""
    parts, depth = [""], 0
    for letter in of.strip()[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _sides(text: str) -> tuple[int, ...]:
    return tuple(int(side) for side in text.split(",") if side)


def _devices(line: str) -> int:
    """How many devices take part in each group."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return listed[1].count(",") + 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(iota[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", line):
        return pairs[1].count("{")
    return 1


def _computations(text: str) -> dict[str, list[str]]:
    """The lines of each computation; the one that is run has the name of the empty string."""
    bodies: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = bodies.setdefault("" if head["entry"] else head["name"], [])
        elif line.startswith(" "):
            current.append(line)
    return bodies


def _runs(bodies: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs in a run of the whole."""
    runs: collections.Counter[str] = collections.Counter()

    def visit(name: str, times: int) -> None:
        runs[name] += times
        for line in bodies.get(name, ()):
            for called, count in _called(line, bodies):
                visit(called, times * count)

    visit("", 1)
    return {name: count for name, count in runs.items() if name in bodies}


def _called(line: str, bodies: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    if loop := _WHILE.search(line):
        known = _TRIPS.search(line)
        inside = bodies.get(loop["condition"], [])
        limits = [int(found[1]) for each in inside if (found := _CONSTANT.search(each))]
        yield loop["body"], int(known[1]) if known else max(limits, default=1)
        return
    for name in _CALLED.findall(line):
        yield name, 1
    for names in _BRANCHES.findall(line):
        for name in names.replace("%", "").split(","):
            yield name.strip(), 1
