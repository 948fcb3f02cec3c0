"""The README's commands do what it says: each ``sh`` block is run as a newcomer would, in this checkout."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from medai.router.routing.rules import Rules
from medai.router.settings import load as settings

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Each command of each ``sh`` block, without its comment."""
    lines = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.slow
def test_every_command_of_the_readme_succeeds(tmp_path: Path) -> None:
    assert {"./medai demo", "./medai up", "./medai down"} <= set(commands())
    environment = {**os.environ, "MEDAI_DIR": str(tmp_path / "site")}
    try:
        for line in commands():
            line = line.replace("--out results", f"--out {tmp_path / 'results'}")
            done = subprocess.run(
                ["sh", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    finally:
        subprocess.run(["./medai", "down"], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (tmp_path / "results" / "key_image.png").stat().st_size > 10_000


def test_the_route_in_the_readme_is_a_route(tmp_path: Path) -> None:
    (route,) = blocks("toml")
    file = tmp_path / "medai.toml"
    file.write_text(route, encoding="utf-8")
    loaded = settings.load(str(file))
    assert Rules(loaded.routes, loaded.routing)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
