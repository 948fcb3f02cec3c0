"""The diagrams of docs/workflow.md are those of their sources."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "workflow"


def test_each_diagram_is_drawn_from_its_source() -> None:
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    pictures = draw.pictures()
    assert len(pictures) == 2
    for path, text in pictures.items():
        assert path.read_text(encoding="utf-8") == text, f"run python docs/workflow/draw.py: {path.name} is old"
