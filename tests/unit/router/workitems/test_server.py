"""A worklist is searched whole, changed only by the lock, and whatever it answers, no word of it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from ups_server import UpsServer, ups_server, workitem

from medai.router.delivery import web
from medai.router.errors import MedaiError, WorkitemRefused, WorklistUnreachable
from medai.router.settings.workitems import WorkitemsSettings
from medai.router.workitems import server as under_test
from medai.router.workitems import write
from medai.router.workitems.read import StepState
from medai.router.workitems.server import Worklist

LOCK, OTHER = "2.25.1", "2.25.2"
PROGRESS = write.progress(LOCK, "begun")


@pytest.fixture
def there() -> Iterator[UpsServer]:
    with ups_server() as server:
        yield server
    assert server.malformed == []


@pytest.fixture
def worklist(there: UpsServer) -> Worklist:
    return Worklist(WorkitemsSettings(url=there.url))


def test_a_search_finds_what_is_scheduled_and_nothing_else(there: UpsServer, worklist: Worklist) -> None:
    assert list(worklist.scheduled()) == []
    there.schedule("1.2.3", "1.9")
    there.schedule("1.2.4", "1.9").said.ProcedureStepState = "COMPLETED"
    (found,) = worklist.scheduled()
    assert (found.uid, found.study, found.work[0].key) == ("1.2.3", "1.9", "LUNGS^99HOSPITAL")


@pytest.mark.parametrize("knows_offset", [True, False])
def test_a_long_worklist_comes_in_pages_each_workitem_once(knows_offset: bool) -> None:
    with ups_server(page=2, knows_offset=knows_offset) as there:
        for number in range(5):
            there.schedule(f"1.2.{number}", "1.9")
        found = [item.uid for item in Worklist(WorkitemsSettings(url=there.url)).scheduled()]
    assert found == [f"1.2.{number}" for number in range(5 if knows_offset else 2)]


def test_a_worklist_that_never_ends_is_left_after_some_pages(
    there: UpsServer, worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = iter(range(1000))
    monkeypatch.setattr(there, "search", lambda query: (200, [workitem(f"1.2.{next(pages)}", "1.9")]))
    assert len(list(worklist.scheduled())) == under_test.PAGES


def test_who_claims_first_has_it_and_only_the_lock_changes_it(there: UpsServer, worklist: Worklist) -> None:
    item = there.schedule("1.2.3", "1.9")
    worklist.change_state("1.2.3", LOCK, StepState.IN_PROGRESS)
    assert (item.state, item.lock) == ("IN PROGRESS", LOCK)
    worklist.update("1.2.3", LOCK, PROGRESS)
    assert item.progress == [0.0]
    for lock in (LOCK, OTHER):
        with pytest.raises(WorkitemRefused) as refused:
            worklist.change_state("1.2.3", lock, StepState.IN_PROGRESS)
        assert not refused.value.gone
    with pytest.raises(WorkitemRefused):
        worklist.update("1.2.3", OTHER, write.progress(OTHER, "begun"))
    with pytest.raises(WorkitemRefused):  # nothing was said of what was done
        worklist.change_state("1.2.3", LOCK, StepState.COMPLETED)


def test_a_workitem_is_retrieved_or_gone(there: UpsServer, worklist: Worklist) -> None:
    there.schedule("1.2.3", "1.9")
    found = worklist.retrieve("1.2.3")
    assert found is not None
    assert (found.state, found.study) == ("SCHEDULED", "1.9")
    assert worklist.retrieve("1.2.4") is None
    with pytest.raises(WorkitemRefused) as refused:
        worklist.change_state("1.2.4", LOCK, StepState.IN_PROGRESS)
    assert refused.value.gone


def test_the_login_is_sent_and_its_failure_told_as_one() -> None:
    with ups_server(token="right") as there:
        Worklist(WorkitemsSettings(url=there.url, token="right")).answers()
        with pytest.raises(WorklistUnreachable, match="check its username and password, or token"):
            Worklist(WorkitemsSettings(url=there.url, token="wrong")).answers()


def test_only_a_uid_goes_into_an_address(there: UpsServer, worklist: Worklist) -> None:
    for uid in ("", "1.2/state", "../studies", "1.2?x"):
        with pytest.raises(ValueError, match="not a UID"):
            worklist.change_state(uid, LOCK, StepState.IN_PROGRESS)
    assert there.seen == []


ODD = (b"<html>Plantedname</html>", b"[1, 2]", b'"Plantedname"', b"[" * 100_000, b"\xff\xfe", b"[{}, null]")


@pytest.mark.parametrize("data", ODD)
def test_what_is_no_dicom_json_is_told_in_our_words(there: UpsServer, worklist: Worklist, data: bytes) -> None:
    there.fault(200, times=2, data=data)
    for ask in (lambda: list(worklist.scheduled()), lambda: [worklist.retrieve("1.2.3")]):
        with pytest.raises(WorklistUnreachable, match="is \\[workitems\\] url right") as error:
            ask()
        assert "Plantedname" not in str(error.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(there: UpsServer, worklist: Worklist, status: int) -> None:
    with ups_server() as elsewhere:
        there.fault(status, times=2, headers={"Location": f"{elsewhere.url}/workitems"})
        with pytest.raises(WorklistUnreachable, match="a redirect"):
            list(worklist.scheduled())
        with pytest.raises(WorklistUnreachable, match="a redirect"):
            worklist.update("1.2.3", LOCK, PROGRESS)
        assert elsewhere.seen == []


def test_an_answer_that_is_too_long_is_not_read_whole(
    there: UpsServer, worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "ANSWER_LIMIT", 1 << 20)
    there.fault(200, data=json.dumps([{"00080018": "x" * (2 << 20)}]).encode())
    with pytest.raises(WorklistUnreachable, match="more than 1 MiB"):
        list(worklist.scheduled())
    there.fault(200, data=b"[]" + b" " * ((1 << 20) - 2))
    assert list(worklist.scheduled()) == []


@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 429, 500, 501, 503])
def test_a_search_that_fails_says_that_the_worklist_is_away(
    there: UpsServer, worklist: Worklist, status: int
) -> None:  # fmt: skip
    there.fault(status, data=b"Plantedname", headers={"Retry-After": "7"})
    with pytest.raises(WorklistUnreachable) as error:
        list(worklist.scheduled())
    assert str(status) in str(error.value)
    assert "Plantedname" not in str(error.value)
    assert (error.value.retry_after_s == 7.0) is (status in (408, 429, 500, 501, 503))


@pytest.mark.parametrize("status", [*sorted(under_test.OF_THE_ITEM), 401, 418, 500, 503])
def test_a_change_that_fails_is_the_workitems_fault_or_the_worklists(
    there: UpsServer, worklist: Worklist, status: int
) -> None:
    there.schedule("1.2.3", "1.9")
    there.fault(status, data=b"Plantedname")
    kind = WorkitemRefused if status in under_test.OF_THE_ITEM else WorklistUnreachable
    with pytest.raises(MedaiError) as error:
        worklist.change_state("1.2.3", LOCK, StepState.IN_PROGRESS)
    assert type(error.value) is kind
    assert "Plantedname" not in str(error.value)
    assert "1.2.3" not in str(error.value)


def test_a_worklist_that_is_not_there_is_away() -> None:
    with ups_server() as there:
        gone = Worklist(WorkitemsSettings(url=there.url))
    with pytest.raises(WorklistUnreachable, match="does not answer"):
        gone.answers()
