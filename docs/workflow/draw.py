"""Draw the sequence diagrams of docs/workflow.md: ``python docs/workflow/draw.py`` writes an SVG beside each TOML.

An arrow a step, the actors side by side, in the order of the file; nothing but this file is needed.
"""

from __future__ import annotations

import html
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMN, ROW, TOP, MARGIN = 158, 50, 74, 84
INK, SOFT, LINE, OURS = "#1b1f24", "#57606a", "#8c959f", "#0072B2"
FONT = 'font-family="DejaVu Sans, Arial, sans-serif"'


def draw(diagram: dict[str, Any]) -> str:
    """The SVG of one diagram."""
    actors, steps, new = diagram["actors"], diagram["steps"], set(diagram.get("new", []))
    at = {name: MARGIN + COLUMN * place for place, name in enumerate(actors)}
    width, height = 2 * MARGIN + COLUMN * (len(actors) - 1), TOP + ROW * len(steps) + 30
    title = html.escape(diagram["title"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"',
        f'  aria-label="{title}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
        f'<text x="{MARGIN - 64}" y="22" font-size="15" font-weight="bold" fill="{INK}">{title}</text>',
    ]
    for name in actors:
        parts += _actor(name, at[name], height, ours=name in new)
    for row, step in enumerate(steps):
        parts += _step(step, at, TOP + ROW * row + 34, width)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _actor(name: str, x: int, height: int, *, ours: bool) -> list[str]:
    colour = OURS if ours else INK
    return [
        f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{height - 8}" stroke="{LINE}" stroke-dasharray="3 4"/>',
        f'<rect x="{x - 62}" y="{TOP - 34}" width="124" height="28" rx="4" fill="{colour}"/>',
        f'<text x="{x}" y="{TOP - 15}" font-size="12" fill="#ffffff" text-anchor="middle">{html.escape(name)}</text>',
    ]


def _step(step: dict[str, str], at: dict[str, int], y: int, width: int) -> list[str]:
    start, end = at[step["from"]], at[step["to"]]
    middle = (start + end) / 2
    room = 3.4 * max(len(step["text"]), len(step["how"]))
    middle = min(max(middle, room + 6), width - room - 6)
    halo = 'stroke="#ffffff" stroke-width="4" paint-order="stroke"'
    return [
        f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="{INK}" stroke-width="1.4" marker-end="url(#tip)"/>',
        f'<text x="{middle:g}" y="{y - 8}" font-size="11" fill="{INK}" text-anchor="middle" {halo}>'
        f"{html.escape(step['text'])}</text>",
        f'<text x="{middle:g}" y="{y + 14}" font-size="9" fill="{SOFT}" text-anchor="middle" {halo}>'
        f"{html.escape(step['how'])}</text>",
    ]


def pictures() -> dict[Path, str]:
    """Each diagram's file and what it must hold."""
    return {
        path.with_suffix(".svg"): draw(tomllib.loads(path.read_text("utf-8"))) for path in sorted(HERE.glob("*.toml"))
    }


def main() -> int:
    """Write them."""
    for path, text in pictures().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(HERE.parent.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
