"""Known advisories: what we pin is in none, a planted one is found, and the list is made anew of what OSV answers."""

from __future__ import annotations

import datetime
import http.server
import importlib.util
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
TODAY = datetime.date(2026, 12, 24)


@cache
def script() -> ModuleType:
    sys.path.insert(0, str(DEPLOY))  # as where it is run from its folder
    try:
        spec = importlib.util.spec_from_file_location("advisories", DEPLOY / "advisories.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["advisories"] = module  # a dataclass asks for its module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DEPLOY))
    return module


def lock(tmp_path: Path, **pins: str) -> Path:
    """The lock, with some versions changed."""
    text = (DEPLOY.parent / "requirements.lock").read_text(encoding="utf-8")
    for name, version in pins.items():
        text, changed = re.subn(rf"(?m)^{name}==[^ ]+", f"{name}=={version}", text)
        assert changed == 1
    path = tmp_path / "requirements.lock"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_that_we_pin_has_a_known_advisory(capsys: pytest.CaptureFixture[str]) -> None:
    assert script().main([]) == 0, capsys.readouterr().err


def test_every_advisory_is_of_a_package_that_we_pin() -> None:
    locked = {each.name for each in script().read((DEPLOY.parent / "requirements.lock").read_text(encoding="utf-8"))}
    said = script().known(script().LIST.read_text(encoding="utf-8"))
    assert {each.package for each in said.advisories} <= locked
    assert len({(each.package, each.id) for each in said.advisories}) == len(said.advisories)
    assert all(each.summary and each.affected for each in said.advisories)


@pytest.mark.parametrize(
    ("package", "version", "fixed", "advisory"),
    [
        ("h11", "0.14.0", "0.16.0", "CVE-2025-43859"),
        ("urllib3", "2.6.2", "2.7.0", "CVE-2026-44432"),
        ("pydicom", "3.0.1", "3.0.2", "CVE-2026-32711"),
        ("protobuf", "6.31.0rc2", "6.33.5", "CVE-2025-4565"),
    ],
)
def test_a_version_in_an_advisorys_range_fails_and_the_fixed_one_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], package: str, version: str, fixed: str, advisory: str
) -> None:
    assert script().main(["--lock", str(lock(tmp_path, **{package: version}))]) == 1
    assert f"{package} {version}: {advisory}: " in capsys.readouterr().err
    assert script().main(["--lock", str(lock(tmp_path, **{package: fixed}))]) == 0


def test_one_that_was_accepted_with_a_reason_does_not_fail(tmp_path: Path) -> None:
    text = script().LIST.read_text(encoding="utf-8")
    accepted = tmp_path / "advisories.toml"
    accepted.write_text(text.replace("[accepted]\n", '[accepted]\n"CVE-2025-43859" = "no proxy before it"\n', 1))
    planted = lock(tmp_path, h11="0.14.0")
    assert script().main(["--lock", str(planted), "--list", str(accepted)]) == 0


def test_an_old_list_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    said = script().Known(TODAY - datetime.timedelta(days=91), {}, ())
    assert script().check(said, [], TODAY) == 0
    assert "91 days old" in capsys.readouterr().out


OSV = {
    "h11": [
        [
            {
                "id": "GHSA-vqfr-h8mv-ghfj",
                "aliases": ["CVE-2025-43859"],
                "summary": "Chunked bodies\nand more",
                "affected": [
                    {
                        "package": {"name": "H11", "ecosystem": "PyPI"},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.16.0"}]}],
                    },
                    {"package": {"name": "another", "ecosystem": "PyPI"}, "versions": ["1.0"]},
                ],
            },
            {
                "id": "GHSA-gone",
                "withdrawn": "2025-01-01T00:00:00Z",
                "affected": [{"package": {"name": "h11"}, "versions": ["0.16.0"]}],
            },
        ],
        [
            {
                "id": "PYSEC-2025-1",
                "aliases": ["CVE-2025-43859"],
                "details": "The same.",
                "affected": [{"package": {"name": "h11"}, "versions": ["0.1", "not a version"]}],
            },
            {
                "id": "PYSEC-2026-2",
                "details": "From two lines.",
                "affected": [
                    {
                        "package": {"name": "h11"},
                        "ranges": [
                            {"type": "GIT", "events": [{"introduced": "0"}]},
                            {
                                "type": "ECOSYSTEM",
                                "events": [{"introduced": "2.0"}, {"introduced": "1.0"}, {"last_affected": "1.4"}],
                            },
                        ],
                    }
                ],
            },
        ],
    ]
}
"""Package -> pages of answers."""


@contextmanager
def osv(answers: dict[str, list[list[dict[str, Any]]]], status: int = 200) -> Iterator[str]:
    """Something that answers like api.osv.dev; its address."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert question["package"]["ecosystem"] == "PyPI"
            pages = answers.get(question["package"]["name"], [[]])
            page = int(question.get("page_token", 0))
            said: dict[str, Any] = {"vulns": pages[page]}
            if page + 1 < len(pages):
                said["next_page_token"] = str(page + 1)
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_list_is_made_anew_of_what_osv_answers(tmp_path: Path) -> None:
    place = tmp_path / "advisories.toml"
    place.write_text('date = 2020-01-01\n[accepted]\n"CVE-1" = "no \\"quotes\\""\n')
    small = tmp_path / "small.lock"
    small.write_text(f"# for: all\nh11==0.16.0 \\\n    --hash=sha256:{'0' * 64}\n")
    with osv(OSV) as source:
        assert script().main(["--refresh", "--source", source, "--list", str(place), "--lock", str(small)]) == 0
    said = script().known(place.read_text())
    first, second = said.advisories
    assert (first.id, first.affected, first.summary) == (
        "GHSA-vqfr-h8mv-ghfj",
        (">=0,<0.16.0", "==0.1"),
        "Chunked bodies",
    )
    assert (second.id, second.affected) == ("PYSEC-2026-2", (">=1.0,<=1.4", ">=2.0"))
    assert said.accepted == {"CVE-1": 'no "quotes"'}
    assert said.date == datetime.datetime.now(datetime.UTC).date()


def test_a_list_that_could_not_be_fetched_whole_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "advisories.toml"
    place.write_text("date = 2020-01-01\n")
    with osv(OSV, status=503) as source:
        assert script().main(["--refresh", "--source", source, "--list", str(place)]) == 2
    assert place.read_text() == "date = 2020-01-01\n"
    assert "503" in capsys.readouterr().err
