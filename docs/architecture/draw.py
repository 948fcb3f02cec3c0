"""Draw the pictures of docs/architecture.md from the imports as they are: ``python docs/architecture/draw.py``.

A box is what lies directly in a folder: a room, or a module that stands alone. It stands one floor above the highest
box that it imports, and a line leads down to each of them; boxes that import each other in a circle share a floor and
are red. So the picture of a folder without rooms has a box for each of its modules. To draw another state of the code,
or another folder:

    python docs/architecture/draw.py --package medai.training --title "training" --out TRAINING.svg

``--count NAME=FOLDER,...`` prints how large folders and files are, as a row of a Markdown table.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

import grimp

HERE = Path(__file__).resolve().parent
PACKAGES = ("medai.router", "medai.workers", "medai.models", "medai.training", "medai.trials", "medai.hl7_mock")
WIDTH, BOX, ROW, MARGIN, GAP = 1100, 26, 66, 24, 14
INK, SOFT, LINE, FILL, CIRCLE = "#1b1f24", "#57606a", "#0072B2", "#eef4f9", "#D55E00"
FONT = 'font-family="DejaVu Sans, Arial, sans-serif"'
Arrows = Mapping[str, frozenset[str]]
Floors = list[list[str]]


def pictures() -> dict[Path, str]:
    """The pictures that follow the code; before.svg is that of an older state and stays."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False)
    return {
        HERE / "house.svg": house(graph),
        HERE / "router.svg": draw("The rooms of router/", arrows_of(graph, "medai.router")),
    }


def arrows_of(graph: grimp.ImportGraph, package: str) -> Arrows:
    """Each box of a package -> the boxes that it imports."""
    boxes = sorted(graph.find_children(package))
    box_of = {module: box for box in boxes for module in (box, *graph.find_descendants(box))}
    found: dict[str, set[str]] = {box: set() for box in boxes}
    for module, box in box_of.items():
        imported = (box_of.get(other) for other in graph.find_modules_directly_imported_by(module))
        found[box] |= {other for other in imported if other is not None and other != box}
    return {
        box.removeprefix(package + "."): frozenset(o.removeprefix(package + ".") for o in to)
        for box, to in found.items()
    }


def circles_of(arrows: Arrows) -> dict[str, frozenset[str]]:
    """Box -> the boxes that it shares a circle with, itself among them."""
    reached = {box: _reached(box, arrows) for box in arrows}
    return {box: frozenset({box, *(o for o in reached[box] if box in reached[o])}) for box in arrows}


def _reached(start: str, arrows: Arrows) -> set[str]:
    found: set[str] = set()
    todo = list(arrows[start])
    while todo:
        box = todo.pop()
        if box not in found:
            found.add(box)
            todo += arrows[box]
    return found


def floors_of(arrows: Arrows) -> Floors:
    """The boxes by floor, the lowest first; within a floor below what imports them, as near as may be."""
    circles, height = circles_of(arrows), dict[str, int]()

    def floor(box: str) -> int:
        if box not in height:
            below = {o for member in circles[box] for o in arrows[member]} - circles[box]
            height.update(dict.fromkeys(circles[box], 1 + max(map(floor, below), default=-1)))
        return height[box]

    rows: Floors = [[] for _ in range(1 + max(map(floor, arrows)))]
    for box in sorted(arrows):
        rows[height[box]].append(box)
    return _settled(rows, arrows)


def _settled(rows: Floors, arrows: Arrows) -> Floors:
    importers: dict[str, list[str]] = {box: [] for box in arrows}
    for box, imported in arrows.items():
        for other in imported:
            importers[other].append(box)
    for turn in range(8):
        at = {box: (place + 0.5) / len(row) for row in rows for place, box in enumerate(row)}
        near = importers if turn % 2 else arrows
        for row in rows:
            row.sort(key=lambda box: (sum(at[o] for o in near[box]) / len(near[box]) if near[box] else at[box], box))
    return rows


def draw(title: str, arrows: Arrows) -> str:
    """The SVG of one folder."""
    circles, lines = circles_of(arrows), list[list[str]]()
    floors = floors_of(arrows)
    for row in reversed(floors):
        lines += _wrapped(row)
    at, heights = dict[str, tuple[float, float]](), 60.0
    for line in lines:
        gap = min(160.0, (WIDTH - 2 * MARGIN - sum(map(_width, line))) / max(1, len(line) - 1))
        x = (WIDTH - sum(map(_width, line)) - gap * (len(line) - 1)) / 2
        for box in line:
            at[box] = (x + _width(box) / 2, heights)
            x += _width(box) + gap
        heights += ROW
    count = sum(map(len, arrows.values()))
    said = f"{len(arrows)} boxes on {len(floors)} floors, {count} arrows"
    parts = _head(f"{title}: {said}", heights)
    for box in sorted(arrows):
        for other in sorted(arrows[box]):
            parts.append(_line(at[box], at[other], bad=other in circles[box]))
    for box in sorted(arrows):
        parts += _box(box, *at[box], bad=len(circles[box]) > 1)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _wrapped(row: list[str]) -> list[list[str]]:
    """A floor in as many lines as its boxes need, about equally long."""
    whole = sum(map(_width, row)) + GAP * len(row)
    parts = int(whole / (WIDTH - 2 * MARGIN)) + 1
    lines: list[list[str]] = [[] for _ in range(parts)]
    for place, box in enumerate(row):
        lines[place % parts].append(box)
    return [line for line in lines if line]


def _width(name: str) -> float:
    return 7.4 * len(name) + 18


def _head(title: str, height: float) -> list[str]:
    said = html.escape(title)
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img"',
        f'  aria-label="{said}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="26" font-size="16" font-weight="bold" fill="{INK}">{said}</text>',
    ]


def _line(start: tuple[float, float], end: tuple[float, float], *, bad: bool) -> str:
    (x1, y1), (x2, y2) = start, end
    y1, y2 = (y1 + BOX / 2, y2 - BOX / 2) if y2 > y1 else (y1 - BOX / 2, y2 + BOX / 2)
    bend = (y2 - y1) / 2
    look = f'stroke="{CIRCLE}" stroke-width="1.6"' if bad else f'stroke="{LINE}" stroke-width="1" stroke-opacity="0.45"'
    path = f"M{x1:.1f} {y1:.1f} C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
    return f'<path d="{path}" fill="none" {look}/>'


def _box(name: str, x: float, y: float, *, bad: bool = False) -> list[str]:
    width, colour = _width(name), CIRCLE if bad else LINE
    return [
        f'<rect x="{x - width / 2:.1f}" y="{y - BOX / 2:.1f}" width="{width:.1f}" height="{BOX}" rx="4" fill="{FILL}" '
        f'stroke="{colour}"/>',
        f'<text x="{x:.1f}" y="{y + 4.5:.1f}" font-size="12.5" fill="{INK}" text-anchor="middle">'
        f"{html.escape(name)}</text>",
    ]


def house(graph: grimp.ImportGraph) -> str:
    """All packages with their rooms; a line for each package that another imports, and which of its rooms."""
    imports = {top: _between(graph, top) for top in PACKAGES}
    rows = [("trials", "workers", "training", "hl7_mock"), ("router", "models")]
    places, y, parts = dict[str, tuple[float, float, float, float]](), 50.0, list[str]()
    for row in rows:
        blocks = [_block(graph, top, (WIDTH - 2 * MARGIN - 40 * (len(row) - 1)) / len(row)) for top in row]
        x = float(MARGIN)
        for top, (width, height, inner) in zip(row, blocks, strict=True):
            places[top] = (x, y, width, height)
            parts.append(f'<g transform="translate({x:.1f} {y:.1f})">' + "".join(inner) + "</g>")
            x += width + 40
        y += max(height for _, height, _ in blocks) + 110
    known = [(top.removeprefix("medai."), other) for top, to in imports.items() for other in sorted(to)]
    arrows = list[str]()
    for top, other in known:
        starts = sorted((to for start, to in known if start == top), key=lambda name: places[name][0])
        ends = sorted((start for start, end in known if end == other), key=lambda name: places[name][0])
        leaves = (starts.index(other) + 0.5) / len(starts)
        enters = (ends.index(top) + 0.25) / len(ends)
        arrows += _arrow(places[top], places[other], leaves, enters, imports[f"medai.{top}"][other])
    return (
        "\n".join(
            [*_head("The house: its folders, their rooms, and who imports whom", y - 90), *parts, *arrows, "</svg>"]
        )
        + "\n"
    )


def _between(graph: grimp.ImportGraph, top: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for module in graph.find_descendants(top):
        for other in graph.find_modules_directly_imported_by(module):
            package = ".".join(other.split(".")[:2])
            if package != top and package in PACKAGES:
                found.setdefault(package.removeprefix("medai."), set()).add(other.split(".")[2])
    return {package: frozenset(rooms) for package, rooms in found.items()}


def _block(graph: grimp.ImportGraph, top: str, width: float) -> tuple[float, float, list[str]]:
    children = sorted(graph.find_children(f"medai.{top}"))
    rooms = [child.rpartition(".")[2] for child in children if graph.find_children(child)]
    alone = [child.rpartition(".")[2] for child in children if not graph.find_children(child)]
    parts, x, y = list[str](), 12.0, 44.0
    for name in rooms:
        if x + _width(name) > width - 8:
            x, y = 12.0, y + BOX + 8
        parts += _box(name, x + _width(name) / 2, y + BOX / 2)
        x += _width(name) + 8
    y += BOX + 18 if rooms else 0
    for line in _lines(alone, int((width - 24) / 6.4)):
        parts.append(f'<text x="12" y="{y:.1f}" font-size="11" fill="{SOFT}">{html.escape(line)}</text>')
        y += 16
    frame = [
        f'<rect width="{width:.1f}" height="{y:.1f}" rx="6" fill="#ffffff" stroke="{INK}"/>',
        f'<text x="12" y="24" font-size="14" font-weight="bold" fill="{INK}">{top}/</text>',
    ]
    return width, y, frame + parts


def _lines(names: Iterable[str], length: int) -> list[str]:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) + 2 > length:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + name
    return [line for line in lines if line]


Place = tuple[float, float, float, float]


def _arrow(top: Place, other: Place, leaves: float, enters: float, rooms: frozenset[str]) -> list[str]:
    """A line from one block down to another, beside its end what is imported; both places are shares of the widths."""
    start = (top[0] + top[2] * leaves, top[1] + top[3] - BOX / 2)
    end = (other[0] + other[2] * enters, other[1] + BOX / 2)
    text = _lines(sorted(rooms), 36)
    halo = 'stroke="#ffffff" stroke-width="4" paint-order="stroke"'
    at = [(end[0] + 8, other[1] - 10 - 13 * (len(text) - 1 - place)) for place in range(len(text))]
    return [
        _line(start, end, bad=False).replace('"0.45"', '"1"'),
        *(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="10.5" fill="{SOFT}" {halo}>{html.escape(line)}</text>'
            for (x, y), line in zip(at, text, strict=True)
        ),
    ]


def counted(name: str, folders: Iterable[Path]) -> str:
    """A table's row: modules, folders, the widest folder's modules, files over 400 lines, the median file's lines."""
    files = sorted(file for folder in folders for file in folder.rglob("*.py") if file.parent.name != "versions")
    lengths = [len(file.read_text(encoding="utf-8").splitlines()) for file in files]
    wide = Counter(file.parent for file in files if file.name != "__init__.py")
    widest, most = max(wide.items(), key=lambda item: (item[1], str(item[0])))
    cells = (
        sum(wide.values()),
        len(wide),
        f"{most} ({widest.name})",
        sum(n > 400 for n in lengths),
        f"{median(lengths):.0f}",
    )
    return f"| {name} | " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/architecture.md.")
    parser.add_argument("--package", help="draw this one alone, such as medai.training")
    parser.add_argument("--title", default="", help="of that picture")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to")
    parser.add_argument("--count", nargs="+", metavar="NAME=FOLDER,...", help="print how large they are instead")
    options = parser.parse_args()
    if options.count:
        for name, _, folders in (text.partition("=") for text in options.count):
            print(counted(name, map(Path, folders.split(","))))
        return 0
    if options.package:
        top = (
            ".".join(options.package.split(".")[:2])
            if options.package.startswith("medai.")
            else options.package.split(".")[0]
        )
        graph = grimp.build_graph(top, exclude_type_checking_imports=False)
        made = {
            options.out or Path(f"{options.package}.svg"): draw(
                options.title or options.package, arrows_of(graph, options.package)
            )
        }
    else:
        made = pictures()
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
