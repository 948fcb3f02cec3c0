"""Where a job and a delivery may go, as a table; and that nothing but router/ledger/transitions.py writes where they stand."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ledger_cases import T0, arrive, make, seen
from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from medai.router.contract import DeliveryState, Failure, JobState
from medai.router.ledger import Ledger, transitions
from medai.router.ledger import schema as t

TOKEN = "11111111-1111-1111-1111-111111111111"
JOB = JobState
OWED = DeliveryState


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, str]]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}")
    ledger.migrate()
    job_id, _ = make(ledger, arrive(ledger, seen()))
    yield ledger, job_id
    ledger.close()


@pytest.fixture
def db(made: tuple[Ledger, str]) -> Iterator[Connection]:
    """A transaction that is undone after the test."""
    with made[0].database.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@pytest.fixture
def job_id(made: tuple[Ledger, str]) -> str:
    return made[1]


def stands(db: Connection, job_id: str) -> JobState:
    return JobState(db.execute(select(t.jobs.c.state).where(t.jobs.c.id == job_id)).scalar_one())


def put(db: Connection, job_id: str, state: JobState) -> None:
    """By hand, as no program may."""
    values = {"state": state.value, "lease_token": TOKEN if state is JOB.RUNNING else None}
    db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(**values))


def a_delivery(db: Connection, job_id: str, state: DeliveryState, destination: str = "ris") -> int:
    db.execute(t.deliveries.delete().where(t.deliveries.c.job_id == job_id))
    row = {"job_id": job_id, "destination": destination, "state": state.value, "error": "as it was"}
    made = db.execute(insert(t.deliveries).values(**row)).inserted_primary_key
    assert made is not None
    return int(made[0])


def delivery_stands(db: Connection, number: int) -> DeliveryState:
    return DeliveryState(db.execute(select(t.deliveries.c.state).where(t.deliveries.c.id == number)).scalar_one())


def test_every_state_is_in_the_table_and_none_is_its_own_next() -> None:
    for moves in (transitions.JOB_MOVES, transitions.DELIVERY_MOVES):
        states = set(type(next(iter(moves))))
        assert set(moves) == states
        assert all(state not in after and after <= states for state, after in moves.items())


def test_every_state_can_be_reached_and_every_open_one_can_end() -> None:
    def reach(moves: Any, start: Any) -> set[Any]:
        found, ahead = {start}, [start]
        while ahead:
            new = moves[ahead.pop()] - found
            found |= new
            ahead += new
        return found

    assert reach(transitions.JOB_MOVES, JOB.PENDING) == set(JOB)
    assert reach(transitions.DELIVERY_MOVES, OWED.PENDING) == set(OWED)
    for state in JOB:
        assert JOB.DONE in reach(transitions.JOB_MOVES, state) or state is JOB.CANCELLED
    for state in OWED:
        assert OWED.DONE in reach(transitions.DELIVERY_MOVES, state) or state in (OWED.DROPPED, OWED.CANCELLED)


@pytest.mark.parametrize("old", list(JOB))
@pytest.mark.parametrize("to", list(JOB))
def test_a_job_goes_where_the_table_says_and_nowhere_else(
    db: Connection, job_id: str, old: JobState, to: JobState
) -> None:
    allowed = to in transitions.JOB_MOVES[old]
    put(db, job_id, old)
    this = t.jobs.c.id == job_id
    if not allowed:
        with pytest.raises(ValueError, match="no job goes from"):
            transitions.move_jobs(db, to, since=(old,), where=this, values={})
    else:
        assert transitions.move_jobs(db, to, since=(old,), where=this, values={}) == 1
        assert transitions.move_jobs(db, to, since=(old,), where=this, values={}) == 0, "it was there once"
    assert stands(db, job_id) is (to if allowed else old)


@pytest.mark.parametrize("old", list(OWED))
@pytest.mark.parametrize("to", list(OWED))
def test_a_delivery_goes_where_the_table_says_and_nowhere_else(
    db: Connection, job_id: str, old: DeliveryState, to: DeliveryState
) -> None:
    allowed = to in transitions.DELIVERY_MOVES[old]
    number = a_delivery(db, job_id, old)
    this = t.deliveries.c.id == number
    if not allowed:
        with pytest.raises(ValueError, match="no delivery goes from"):
            transitions.move_deliveries(db, to, since=(old,), where=this, values={})
    else:
        assert transitions.move_deliveries(db, to, since=(old,), where=this, values={}) == 1
        assert transitions.move_deliveries(db, to, since=(old,), where=this, values={}) == 0, "it was there once"
    assert delivery_stands(db, number) is (to if allowed else old)


def mine(job_id: str) -> ColumnElement[bool]:
    return transitions.in_hand(job_id, TOKEN)


def gives_back(to: JobState) -> Callable[[Connection, str], object]:
    return lambda db, job: transitions.give_back(db, mine(job), to=to, reason="")


JOB_FUNCTIONS: dict[str, tuple[Callable[[Connection, str], object], dict[JobState, JobState]]] = {
    "take": (
        lambda db, job: transitions.take(db, t.jobs.c.id == job, {"lease_token": TOKEN}), {JOB.PENDING: JOB.RUNNING},
    ),
    "hand over": (lambda db, job: transitions.hand_over(db, mine(job)), {JOB.RUNNING: JOB.DELIVERING}),
    "fail": (lambda db, job: transitions.fail(db, mine(job), Failure.CRASH, "", T0), {JOB.RUNNING: JOB.FAILED}),
    "back to read": (gives_back(JOB.PENDING), {JOB.RUNNING: JOB.PENDING}),
    "back to deliver": (gives_back(JOB.DELIVERING), {JOB.RUNNING: JOB.DELIVERING}),
    "back to fail": (gives_back(JOB.FAILED), {JOB.RUNNING: JOB.FAILED}),
    "revive": (
        lambda db, job: transitions.revive(db, job, revision=1, predecessor=None, created_at=T0),
        {JOB.SUPERSEDED: JOB.PENDING},
    ),
    "supersede": (
        lambda db, job: transitions.supersede(db, job, T0),
        {JOB.PENDING: JOB.SUPERSEDED, JOB.RUNNING: JOB.SUPERSEDED},
    ),
    "supersede failed": (lambda db, job: transitions.supersede_failed(db, job), {JOB.FAILED: JOB.SUPERSEDED}),
    "outdate": (lambda db, job: transitions.outdate(db, job, T0), {JOB.PENDING: JOB.SUPERSEDED}),
    "cancel": (
        lambda db, job: transitions.cancel(db, job, "", T0),
        {JOB.PENDING: JOB.CANCELLED, JOB.RUNNING: JOB.CANCELLED},
    ),
    "study deleted": (
        lambda db, job: transitions.cancel_deleted(db, job, T0),
        dict.fromkeys((JOB.PENDING, JOB.RUNNING, JOB.DELIVERING, JOB.FAILED), JOB.CANCELLED),
    ),
    "settle": (lambda db, job: transitions.settle(db, job, T0), {JOB.DELIVERING: JOB.DONE}),
    "deliver again": (lambda db, job: transitions.deliver_again(db, job), {JOB.FAILED: JOB.DELIVERING}),
    "retry": (lambda db, job: transitions.retry(db, job), {JOB.FAILED: JOB.PENDING}),
    "drop": (lambda db, job: transitions.drop(db, job, ""), {JOB.FAILED: JOB.CANCELLED}),
    "withdraw": (lambda db, job: transitions.withdraw(db, job, ""), {JOB.FAILED: JOB.CANCELLED}),
}  # fmt: skip


@pytest.mark.parametrize("old", list(JOB))
@pytest.mark.parametrize("name", JOB_FUNCTIONS)
def test_each_move_of_a_job_begins_where_it_may_and_leaves_every_other_alone(
    db: Connection, job_id: str, name: str, old: JobState
) -> None:
    move, moves = JOB_FUNCTIONS[name]
    put(db, job_id, old)
    move(db, job_id)
    assert stands(db, job_id) is moves.get(old, old)


DELIVERY_FUNCTIONS: dict[
    str, tuple[Callable[[Connection, ColumnElement[bool]], object], dict[DeliveryState, DeliveryState]]
] = {
    "delivered": (lambda db, this: transitions.delivered(db, this, T0, "AA"), {OWED.PENDING: OWED.DONE}),
    "park": (lambda db, this: transitions.park(db, this, T0, "AE"), {OWED.PENDING: OWED.PARKED}),
    "unpark": (lambda db, this: transitions.unpark(db, this), {OWED.PARKED: OWED.PENDING}),
    "drop": (lambda db, this: transitions.drop_delivery(db, this, ""), {OWED.PARKED: OWED.DROPPED}),
    "call off": (
        lambda db, this: transitions.call_off(db, this, ""),
        {OWED.PENDING: OWED.CANCELLED, OWED.PARKED: OWED.CANCELLED},
    ),
}


@pytest.mark.parametrize("old", list(OWED))
@pytest.mark.parametrize("name", DELIVERY_FUNCTIONS)
def test_each_move_of_a_delivery_begins_where_it_may_and_leaves_every_other_alone(
    db: Connection, job_id: str, name: str, old: DeliveryState
) -> None:
    move, moves = DELIVERY_FUNCTIONS[name]
    number = a_delivery(db, job_id, old)
    move(db, t.deliveries.c.id == number)
    assert delivery_stands(db, number) is moves.get(old, old)


def test_the_moves_of_the_functions_are_all_that_the_table_allows() -> None:
    def pairs(functions: Any) -> set[tuple[str, str]]:
        return {(old, to) for _, moves in functions.values() for old, to in moves.items()}

    def allowed(moves: Any) -> set[tuple[str, str]]:
        return {(old, to) for old, after in moves.items() for to in after}

    by_a_parked_delivery = {(JOB.DELIVERING, JOB.FAILED)}
    assert pairs(JOB_FUNCTIONS) | by_a_parked_delivery == allowed(transitions.JOB_MOVES)
    assert pairs(DELIVERY_FUNCTIONS) == allowed(transitions.DELIVERY_MOVES)


@pytest.mark.parametrize("state", list(OWED))
def test_a_job_ends_by_what_became_of_its_last_delivery(db: Connection, job_id: str, state: DeliveryState) -> None:
    put(db, job_id, JOB.DELIVERING)
    a_delivery(db, job_id, state)
    ends = {OWED.PENDING: JOB.DELIVERING, OWED.PARKED: JOB.FAILED}.get(state, JOB.DONE)
    assert transitions.settle(db, job_id, T0) is ends
    assert stands(db, job_id) is ends


def test_a_job_without_the_archives_copy_fails_at_once_whatever_else_waits(db: Connection, job_id: str) -> None:
    put(db, job_id, JOB.DELIVERING)
    a_delivery(db, job_id, OWED.PARKED, destination="archive")
    transitions.owe(db, {"job_id": job_id, "destination": "ris"})
    assert transitions.settle(db, job_id, T0) is JOB.FAILED


def test_what_is_owed_twice_is_owed_once_and_keeps_its_place(db: Connection, job_id: str) -> None:
    number = a_delivery(db, job_id, OWED.PARKED)
    transitions.owe(db, {"job_id": job_id, "destination": "ris"})
    assert db.execute(select(t.deliveries.c.id, t.deliveries.c.state)).all() == [(number, "parked")]


@pytest.mark.parametrize("name", ["supersede", "outdate", "cancel"])
def test_what_has_begun_to_store_is_not_set_aside(db: Connection, job_id: str, name: str) -> None:
    db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(storing_at=T0))
    move, _ = JOB_FUNCTIONS[name]
    assert move(db, job_id) is False
    assert stands(db, job_id) is JOB.PENDING


def test_another_workers_token_moves_nothing(db: Connection, job_id: str) -> None:
    put(db, job_id, JOB.RUNNING)
    other = transitions.in_hand(job_id, "another")
    assert not transitions.hand_over(db, other)
    assert not transitions.give_back(db, other, to=JOB.PENDING)
    assert not transitions.fail(db, other, Failure.CRASH, "", T0)
    assert stands(db, job_id) is JOB.RUNNING


# -- nobody else writes a state

STATEFUL = {"job": "jobs", "delivery": "deliveries"}
WRITERS = ("update", "insert", "upsert")
RAW = re.compile(r"\b(update\s+|insert\s+into\s+)[\"`]?(job|delivery)\b.*\bstate\b", re.IGNORECASE | re.DOTALL)
UNKNOWN = "?"


def state_writes(source: str) -> list[str]:
    """Every place of a module that writes the state of a job or a delivery, or may, for all that can be seen."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    found = {
        f"line {node.lineno}: SQL of its own"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and RAW.search(node.value)
    }
    for scope in (tree, *functions):
        found |= set(_of_scope(list(_own(scope)), _tables(tree)))
    return sorted(found)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module or function that are not a function's within it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _own(child)


def _of_scope(scope: Sequence[ast.AST], tables: dict[str, str]) -> Iterator[str]:
    for statement, calls in _statements(scope):
        table = _table(statement, tables)
        if table not in (*STATEFUL.values(), UNKNOWN):
            continue
        values = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "values"]
        conflicts = [word.value for call in calls for word in call.keywords if word.arg == "set_"]
        keys = {key for call in values for key in _keys_of_call(call, scope)}
        keys |= {key for content in conflicts for key in _keys(content, scope)}
        if not values:
            keys.add(UNKNOWN)  # its rows are given elsewhere
        if "state" in keys or (UNKNOWN in keys and table != UNKNOWN):
            yield f"line {statement.lineno}: {table}"


def _statements(scope: Sequence[ast.AST]) -> Iterator[tuple[ast.Call, list[ast.Call]]]:
    """Each update(...), insert(...) or upsert(...) with the calls that are chained to it."""
    inner = {
        id(node.func.value) for node in scope if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    for node in scope:
        if not isinstance(node, ast.Call) or id(node) in inner:
            continue
        chain = [node]
        while isinstance(chain[-1].func, ast.Attribute) and isinstance(chain[-1].func.value, ast.Call):
            chain.append(chain[-1].func.value)
        if _writes(chain[-1]):
            yield chain[-1], chain[:-1]


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in WRITERS:
        return False
    of_a_table = isinstance(call.func, ast.Attribute) and not call.args  # t.jobs.update()
    return of_a_table or bool(call.args)


def _table(call: ast.Call, tables: dict[str, str]) -> str:
    if call.args:
        return _table_of(call.args[-1], tables)
    assert isinstance(call.func, ast.Attribute)
    return _table_of(call.func.value, tables)


def _table_of(node: ast.expr, tables: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return tables.get(node.id, UNKNOWN) if isinstance(node, ast.Name) else UNKNOWN


def _tables(tree: ast.AST) -> dict[str, str]:
    """What a module calls its tables: ``d = t.deliveries``, ``from ... import jobs as j``."""
    known = set(t.metadata.tables) | {name for name in vars(t) if getattr(t, name) in t.metadata.tables.values()}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            pairs = list(_pairs(node.targets[0], node.value))
        elif isinstance(node, ast.ImportFrom):
            pairs = [(alias.asname or alias.name, alias.name) for alias in node.names]
        else:
            continue
        found |= {name: table for name, table in pairs if table in known}
    return found


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for left, right in zip(target.elts, value.elts, strict=False):
            yield from _pairs(left, right)
    elif isinstance(target, ast.Name) and isinstance(value, ast.Attribute):
        yield target.id, value.attr


def _keys_of_call(call: ast.Call, scope: Sequence[ast.AST]) -> set[str]:
    found = set().union(*(_keys(content, scope) for content in call.args))
    for word in call.keywords:
        found |= _keys(word.value, scope) if word.arg is None else {word.arg}
    return found


def _keys(content: ast.expr, scope: Sequence[ast.AST]) -> set[str]:
    """The keys of a dict as far as the function shows them; UNKNOWN where it does not."""
    if isinstance(content, ast.Dict):
        found = set()
        for key, value in zip(content.keys, content.values, strict=True):
            if key is None:
                found |= _keys(value, scope)
            else:
                found.add(str(key.value) if isinstance(key, ast.Constant) else UNKNOWN)
        return found
    if isinstance(content, ast.BinOp):
        return _keys(content.left, scope) | _keys(content.right, scope)
    if isinstance(content, ast.IfExp):
        return _keys(content.body, scope) | _keys(content.orelse, scope)
    return _keys_of_name(content.id, scope) if isinstance(content, ast.Name) else {UNKNOWN}


def _keys_of_name(name: str, scope: Sequence[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in scope:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id == name:
                found |= _keys(value, scope) if isinstance(value, ast.expr) else {UNKNOWN}
            item = target.value if isinstance(target, ast.Subscript) else None
            if isinstance(target, ast.Subscript) and isinstance(item, ast.Name) and item.id == name:
                key = target.slice
                found.add(str(key.value) if isinstance(key, ast.Constant) else UNKNOWN)
    return found or {UNKNOWN}


def modules(root: Path) -> list[Path]:
    """What may not write a state: all of router and workers but router/ledger/transitions.py and the history of the schema."""
    found = [path for top in ("router", "workers") for path in sorted((root / top).rglob("*.py"))]
    return [path for path in found if "migrations" not in path.parts and path.name != "transitions.py"]


def test_no_other_module_writes_the_state_of_a_job_or_a_delivery(project_root: Path) -> None:
    looked = modules(project_root)
    assert len(looked) > 100
    wrong = {str(path.relative_to(project_root)): state_writes(path.read_text()) for path in looked}
    assert {name: lines for name, lines in wrong.items() if lines} == {}


def test_the_table_itself_is_seen_to_write_them(project_root: Path) -> None:
    assert len(state_writes((project_root / "router/ledger/transitions.py").read_text())) >= 4


@pytest.mark.parametrize(
    "wrong",
    [
        'db.execute(update(t.jobs).where(t.jobs.c.id == job_id).values(state="done"))',
        'db.execute(update(t.deliveries).values({"state": "done"}))',
        'values = {"state": "done"}\n    db.execute(update(t.jobs).values(**values))',
        'values = {"reason": ""}\n    values["state"] = "done"\n    db.execute(update(t.jobs).values(**values))',
        'values = {"reason": ""}\n    values |= {"state": "done"}\n    db.execute(update(t.jobs).values(**values))',
        'values = {"reason": "", **{"state": "done"}}\n    db.execute(update(t.jobs).values(**values))',
        'j = t.jobs\n    db.execute(update(j).values(state="done"))',
        'd, j = t.deliveries, t.jobs\n    db.execute(d.update().values(state="done"))',
        'db.execute(insert(t.jobs).values(id="1", state="done"))',
        'db.execute(upsert(db, t.deliveries).values(id=1).on_conflict_do_update(set_={"state": "done"}))',
        "db.execute(update(t.jobs).values(**given))",
        "db.execute(insert(t.jobs), rows)",
        'db.execute(update(find()).values(state="done"))',
        "db.execute(text(\"UPDATE job SET state = 'done'\"))",
        "db.exec_driver_sql('insert into delivery (id, state) values (1, 2)')",
    ],
)  # fmt: skip
def test_a_module_that_writes_a_state_is_found(wrong: str) -> None:
    assert state_writes(f"def broken(db, given, rows):\n    {wrong}\n") != []


@pytest.mark.parametrize(
    "right",
    [
        "db.execute(update(t.jobs).values(sent_at=1.0))",
        'values = {"reason": ""}\n    values["sent_at"] = 1.0\n    db.execute(update(t.jobs).values(**values))',
        'db.execute(update(t.edits).values(state="done"))',
        "db.execute(insert(t.stamps), rows)",
        'db.execute(select(t.jobs).where(t.jobs.c.state == "done"))',
        'row.update(state="done")',
    ],
)
def test_a_module_that_writes_something_else_is_left_alone(right: str) -> None:
    assert state_writes(f"def fine(db, given, rows):\n    {right}\n") == []


def test_a_second_condition_narrows_a_move(db: Connection, job_id: str) -> None:
    other = and_(t.jobs.c.id == job_id, t.jobs.c.revision == 2)
    assert transitions.move_jobs(db, JOB.RUNNING, since=(JOB.PENDING,), where=other, values={}) == 0
    assert stands(db, job_id) is JOB.PENDING
