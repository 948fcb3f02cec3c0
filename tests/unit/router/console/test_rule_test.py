"""The rule tester, attacked: no oracle of whose a study is, bounded in work, and what was asked is written down."""

from __future__ import annotations

import string
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from console_cases import World
from fastapi.testclient import TestClient

from medai.router.console import rule_test
from medai.router.contract import OrthancId, SeriesFacts, SeriesUID, StudyFacts, StudyUID
from medai.router.ledger.accounts import Role
from medai.router.reports.story import actions

WHO = {
    "PatientName": "PLANTNAME^ZEBEDEE", "PatientID": "MRN-PLANT-1", "PatientBirthDate": "19480229",
    "AccessionNumber": "PLANTACC99", "Modality": "CT",
}  # fmt: skip
LIST = "[" + ",".join(["0"] * 120) + "]"


def routes(*conditions: str) -> str:
    return "".join(f"[[routes]]\nname='r{n}'\nmodel='m'\nwhen='''{text}'''\n" for n, text in enumerate(conditions))


@pytest.fixture
def study(world: World) -> Iterator[int]:
    """A study of a patient, in the archive."""
    world.job()
    series = SeriesFacts(series_uid=SeriesUID("1.2"), orthanc_id=OrthancId("s"), instances=9, attributes=WHO)
    facts = StudyFacts(study_uid=StudyUID("1"), orthanc_id=OrthancId("o"), attributes=WHO, series=(series,))
    with patch.object(rule_test, "_study", lambda test, _ledger, _orthanc: facts):
        yield 1


def tried(client: TestClient, **body: Any) -> Any:
    return client.post("/api/rules/test", json=body)


@pytest.mark.parametrize("name", [name for name in WHO if name != "Modality"])
def test_a_reader_spells_out_nothing_of_the_patient(world: World, study: int, name: str) -> None:
    client = world.client(Role.READER)
    for condition in (f'study.{name}.startsWith("{WHO[name][0]}")', f'has(study["{name}"])'):
        answer = tried(client, study_id=study, routes=routes(condition))
        assert (answer.status_code, f"{name} identifies a patient" in answer.json()["detail"]) == (422, True)
    half = len(name) // 2
    put_together = f'"{name[:half]}" + "{name[half:]}"'
    for letter in sorted({WHO[name][0], *string.digits[:3]}):
        condition = f'series.exists(s, ({put_together}) in s && s[{put_together}].startsWith("{letter}"))'
        (verdict,) = tried(client, study_id=study, routes=routes(condition)).json()
        assert not verdict["matched"]
        assert verdict["reason"].endswith("is false")
    (verdict,) = tried(client, study_id=study, routes=routes('study.Modality == "CT"')).json()
    assert verdict["matched"], "what routes are about is still seen"


def test_every_test_of_rules_is_written_down(world: World, study: int) -> None:
    client = world.client(Role.READER)
    tried(client, study_id=study, routes=routes("true"))
    tried(client, study_id=study)
    tried(client, study_id=77, routes=routes("true"))
    found = [row for row in actions(world.ledger) if row.action == "rule test"]
    assert [(row.account, row.study_id, row.detail) for row in reversed(found)] == [
        ("reader", study, "routes of one's own"), ("reader", study, "routes in force"), ("reader", None, "routes of one's own")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "conditions",
    [[f"{LIST}.all(x,{LIST}.all(y,x==y))"], [f"{LIST}.all(x,{LIST}.all(y,x==y))"] * 30, [f"{LIST}.all(x, x == 0)"] * 50],
    ids=["502 characters", "many of them", "many small ones"],
)  # fmt: skip
def test_a_test_takes_a_bounded_time_whatever_the_conditions(world: World, conditions: list[str]) -> None:
    client = world.client(Role.READER)
    began = time.process_time()
    answer = tried(
        client, study={"series": [{"Modality": "CT"}] * 200}, routes=f'routing = "all"\n{routes(*conditions)}'
    )
    assert answer.status_code == 200
    assert time.process_time() - began < 6.0, "7.9 s were measured for one of them"
    assert any("looks at more than" in verdict["reason"] for verdict in answer.json())


@pytest.mark.parametrize(
    "body",
    [
        {"study": {}, "routes": "a=" + "[" * 20_000},
        {"study": {}, "routes": routes("(" * 900 + "true" + ")" * 900)},
        {"study": {}, "routes": routes(*["true"] * 51)},
        {"study": {}, "routes": "#" * 60_000},
        {"study": {"attributes": {"a": [[[[[[[[[[1]]]]]]]]]]}}},
        {"study": {"attributes": {"a": [1] * 20_001}}},
        {"study": {"series": [{"a": [{"b": [{}] * 200}] * 200}]}},
    ],
    ids=["nested TOML", "brackets", "many routes", "long routes", "nested values", "many values", "many in a sequence"],
)
def test_a_test_that_would_cost_much_is_refused(world: World, body: dict[str, Any]) -> None:
    assert tried(world.client(Role.READER), **body).status_code == 422


def test_json_that_is_nested_without_end_is_refused(world: World) -> None:
    body = b'{"study":{"attributes":{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}}}"
    answer = world.client(Role.READER).post(
        "/api/rules/test", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)


def test_many_tests_at_once_leave_the_console_to_others(world: World) -> None:
    client = world.client(Role.READER)
    slow = routes(f"{LIST}.all(x,{LIST}.all(y,x==y))")
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(tried(client, study={}, routes=slow).status_code))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {200, 503}
    assert tried(client, study={}, routes=slow).status_code == 200, "a place that was taken is given back"
