"""docs/configuration.md says what the settings are."""

from __future__ import annotations

import re
from pathlib import Path

from medai.router.settings import load as settings
from medai.router.settings.page import page, rows, sections

PAGE = Path(__file__).resolve().parents[4] / "docs" / "configuration.md"


def test_the_page_is_what_the_settings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m medai.router.settings.page > docs/configuration.md"
    )


def test_every_key_has_a_meaning() -> None:
    silent = [line for _, model, prefix in sections() for line in rows(model, prefix) if line.endswith("|  |")]
    assert silent == []


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", page(), flags=re.DOTALL | re.MULTILINE)
    file = tmp_path / "medai.toml"
    file.write_text(example, encoding="utf-8")
    assert settings.load(str(file)).routes[0].name == "mr-brain"
