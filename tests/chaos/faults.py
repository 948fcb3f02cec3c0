"""The faults: a table, name -> Fault, and the moments at which they strike.

A fault waits for its moment, strikes and heals; parts that were killed are started again by the supervisor. Most moments
are tripwires in the proxies (the worker has asked for an image and has no answer yet) or are read off the ledger's
stamps (prepared, not inferred). Next: rounds.py (who calls this).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from servers import free_port

from chaos.parts import Part, Scope
from chaos.proxy import PASS, Kind, Mode, Proxy, Tripwire, When
from chaos.rounds import Fault, Missed, Round
from medai.router.errors import TemporaryError

STOP_S = 20.0
Action = Callable[[str], None]
Strike = Callable[[Round], None]
Moment = Callable[[Round, Action], None]
"""Waits, then calls the action with the name of the part that is in the middle of it; raises Missed."""


# -- moments


def at_request(
    method: str, path: str, when: When, *, speaker: str, peer: str, spread: int = 1, drop: bool = False
) -> Moment:
    """While an exchange is under way; with ``spread`` one of the next so many."""

    def wait(r: Round, action: Action) -> None:
        wire = Tripwire(method=method, path=path, when=when, action=action, skip=r.dice.randrange(spread), drop=drop)
        links = r.site.links(speaker=speaker, peer=peer)
        for link in links:
            link.wires.append(wire)
        try:
            r.until(wire.struck.is_set, what=f"{when} {method} {path} by {speaker or 'anybody'}")
        finally:
            for link in links:
                if wire in link.wires:
                    link.wires.remove(wire)

    return wait


def in_inference(r: Round, action: Action) -> None:
    """The ledger says prepared and not yet inferred."""

    def look() -> str:
        return next((name for _, owner in r.site.view.inferring() if (name := r.site.part_of(owner))), "")

    action(r.until(look, what="a job that is prepared and not inferred"))


def at_last_image(r: Round, action: Action) -> None:
    """The router has read of a study's last image and asks what it belongs to: nothing will remind it afterwards."""
    whole = [study for study in r.studies if not study.late and not study.twice] or r.studies
    r.until(lambda: any(study.sent == study.slices for study in whole), what="a study's last image", pause_s=0.002)
    asks = at_request("POST", "/tools/bulk-content", "before", speaker="router", peer="orthanc", drop=True)
    asks(r, action)


def some_time(name: str, least_s: float = 0.5, most_s: float = 5.0) -> Moment:
    """A seeded moment in the stream, whatever the part is doing."""

    def wait(r: Round, action: Action) -> None:
        r.sleep(r.dice.uniform(least_s, most_s))
        action(name)

    return wait


MOMENTS: Mapping[str, Moment] = {
    "fetch": at_request("GET", "/instances/*/file", "before", speaker="worker", peer="orthanc", spread=8),
    "inference": in_inference,
    "store": at_request("POST", "/instances", "before", speaker="worker", peer="orthanc", spread=3, drop=True),
    "stored": at_request("POST", "/instances", "after", speaker="worker", peer="orthanc", spread=3, drop=True),
    "oru": at_request("MLLP", "*", "before", speaker="", peer="ris", drop=True),
    "oru-answered": at_request("MLLP", "*", "after", speaker="", peer="ris", drop=True),
    "message": at_request("DATA", "message", "after", speaker="worker", peer="redis", drop=True),
    "taken": at_request("DATA", "note", "before", speaker="worker", peer="redis"),
    "listening": at_last_image,
    "deciding": at_request("GET", "/series/*", "before", speaker="router", peer="orthanc"),
}
STANDING: Mapping[str, Moment] = {
    **MOMENTS,
    "store": at_request("POST", "/instances", "before", speaker="worker", peer="orthanc", spread=3),
    "oru": at_request("MLLP", "*", "after", speaker="", peer="ris"),
}
"""The same for a part that is only stopped: what it asked for goes on its way."""


# -- blows


def _note_jobs(r: Round, name: str) -> None:
    """Which jobs the part holds now."""
    try:
        held = [job for job, owner in r.site.view.held() if r.site.part_of(owner) == name]
    except TemporaryError:
        held = []
    r.hit += [(job, time.time()) for job in held]


def killed(moment: Moment, scope: Scope = "all") -> Strike:
    """SIGKILL at a moment; the supervisor starts it again."""

    def strike(r: Round) -> None:
        def blow(name: str) -> None:
            _note_jobs(r, name)
            r.part(name).kill(scope)
            r.struck(f"SIGKILL ({scope}) of {name}")

        moment(r, blow)

    return strike


def stopped(moment: Moment) -> Strike:
    """SIGSTOP at a moment, SIGCONT 20 s later."""

    def strike(r: Round) -> None:
        names: list[str] = []

        def blow(name: str) -> None:
            names.append(name)
            r.part(name).stop()
            r.struck(f"SIGSTOP of {name}")

        moment(r, blow)
        r.sleep(STOP_S)
        for name in names:
            r.part(name).go_on()
        r.healed()

    return strike


def _started_again(part: Part, starts: int) -> bool:
    return part.starts > starts and part.is_up()


def terminated(*names: str) -> Strike:
    """SIGTERM one after the other, as a rolling restart does."""

    def strike(r: Round) -> None:
        r.sleep(r.dice.uniform(1.0, 4.0))
        for name in names:
            r.struck(f"SIGTERM of {name}")
            part = r.part(name)
            part.terminate()
            r.until(partial(_started_again, part, part.starts), what=f"{name} to come back", within_s=90, pause_s=0.1)
        r.healed()

    return strike


def away(name: str, seconds: float, *, broker: bool = False) -> Strike:
    """Killed, and started again only after some seconds."""

    def strike(r: Round) -> None:
        r.sleep(r.dice.uniform(1.0, 4.0))
        r.part(name).hold_down()
        r.struck(f"{name} is gone for {seconds:.0f} s")
        r.sleep(seconds)
        r.part(name).start()
        r.until(r.part(name).is_up, what=f"{name} to come back")
        r.healed()
        if broker:
            r.hit += _first_waiting(r)

    return strike


def _first_waiting(r: Round) -> list[tuple[str, float]]:
    """One job that waits now: it must run soon."""
    return [(job, time.time()) for job in r.site.view.waiting()[:1]]


def both_workers_killed(r: Round) -> None:
    """Power cut of the machine that runs the workers."""

    def blow(_: str) -> None:
        for name in r.site.worker_parts():
            _note_jobs(r, name)
            r.part(name).kill()
        r.struck("SIGKILL of every worker")

    in_inference(r, blow)


def flushed(r: Round) -> None:
    """FLUSHALL while messages wait."""
    r.until(lambda: r.site.messages_waiting() > 0, what="a message that waits in Redis")
    with r.site.broker() as broker:
        broker.flushall()
    r.struck("FLUSHALL")
    r.hit += _first_waiting(r)


def rung_twice(r: Round) -> None:
    """Redis and Celery deliver at least once: every job's message comes again, several times."""
    from medai.router.queue.dispatch import Dispatcher

    dispatcher = Dispatcher(r.site.broker_settings())
    try:
        r.until(r.site.view.held, what="a job that runs")
        for _ in range(6):
            for study in r.studies:
                for job in r.site.view.jobs(study.uid):
                    dispatcher.send(str(job["job_id"]), queue="cpu", priority=0)
                    r.struck(f"the message of {job['job_id'][:8]} ({job['state']}) comes again")
            r.sleep(1.0)
    finally:
        dispatcher.close()
    r.healed()


def young(r: Round) -> None:
    """Orthanc is killed the moment it has a study's last image, before any StableStudy, and is away for 3 s."""
    r.until(
        lambda: any(study.sent == study.slices for study in r.studies), what="the last image of a study", pause_s=0.002
    )
    r.part("orthanc").hold_down()
    r.struck("SIGKILL of Orthanc with a study that is not stable")
    r.sleep(3.0)
    r.part("orthanc").start()
    r.until(r.part("orthanc").is_up, what="Orthanc")
    r.healed()


def links_misbehave(mode: Mode, *, speaker: str = "", peer: str, least_s: float = 6.0, most_s: float = 12.0) -> Strike:
    """Links misbehave for a while, from a seeded moment on."""

    def strike(r: Round) -> None:
        r.sleep(r.dice.uniform(0.5, 4.0))
        _misbehave(r, mode, speaker=speaker, peer=peer, seconds=r.dice.uniform(least_s, most_s))

    return strike


def _misbehave(r: Round, mode: Mode, *, speaker: str, peer: str, seconds: float) -> None:
    links = r.site.links(speaker=speaker, peer=peer)
    _behave(links, mode)
    r.struck(f"{speaker or 'everybody'} -> {peer}: {mode.kind} for {seconds:.0f} s")
    r.sleep(seconds)
    _behave(links, PASS)
    r.healed()


def _behave(links: Sequence[Proxy], mode: Mode) -> None:
    for link in links:
        link.behave(mode)


def cut(speaker: str, peer: str) -> Strike:
    """The network between two parts: connections are reset, or (seeded) nothing comes through and nobody says so."""

    def strike(r: Round) -> None:
        kinds: list[Kind] = ["refuse", "blackhole"]
        r.sleep(r.dice.uniform(0.5, 4.0))
        _misbehave(r, Mode(kind=r.dice.choice(kinds)), speaker=speaker, peer=peer, seconds=r.dice.uniform(8.0, 15.0))

    return strike


def body_cut(r: Round) -> None:
    """Image files end half-way, from the first one that is asked for."""
    mode = Mode(kind="cut", path="/instances/*/file")
    at_request("GET", "/instances/*/file", "before", speaker="worker", peer="orthanc")(
        r, lambda _: _behave(r.site.links(speaker="worker", peer="orthanc"), mode)
    )
    _misbehave(r, mode, speaker="worker", peer="orthanc", seconds=6.0)


def answer_lost(r: Round) -> None:
    """Orthanc has the object, the worker never hears of it."""
    MOMENTS["stored"](r, lambda name: r.struck(f"the answer to {name}'s POST /instances is lost"))
    r.healed()


def ris_answers(
    kind: str, *, least_s: float = 5.0, most_s: float = 12.0, count: int | None = None, **rule: Any
) -> Strike:
    """The RIS misbehaves in its own way, from the first message on."""

    def strike(r: Round) -> None:
        before = len(r.site.spoken)
        seconds = r.dice.uniform(least_s, most_s)
        r.site.ask_ris("POST", "/faults", {"kind": kind, **({"count": count} if count else {}), **rule})
        try:
            r.until(lambda: len(r.site.spoken) > before, what="a message to the RIS")
            r.struck(f"the RIS answers {kind} for {seconds:.0f} s")
            r.sleep(seconds)
        finally:
            r.site.ask_ris("DELETE", "/faults")
        r.healed()

    return strike


def pacs_refuses(r: Round) -> None:
    """The other node answers C-STORE with "out of resources"."""
    before = r.site.pacs.refused
    r.site.pacs.refuse = True
    try:
        r.until(lambda: r.site.pacs.refused > before, what="a C-STORE to the PACS")
        r.struck("the PACS refuses C-STORE")
        r.sleep(r.dice.uniform(5.0, 10.0))
    finally:
        r.site.pacs.refuse = False
    r.healed()


def disk_full(disk: str) -> Strike:
    """A file system without a byte left, for a while."""

    def strike(r: Round) -> None:
        if not r.site.mounted or not all(r.site.mounted):
            raise Missed(f"no file system of its own could be mounted for {disk}: run as root")
        r.sleep(r.dice.uniform(1.0, 4.0))
        r.site.fill(disk)
        r.struck(f"{disk} is full")
        r.sleep(r.dice.uniform(6.0, 10.0))
        r.site.free(disk)
        r.healed()

    return strike


# -- clocks, second routers, older workers: parts are changed for the round and changed back


def with_clocks(*speakers: str) -> Strike:
    """Start router and workers with a clock that can be stepped."""

    def prepare(r: Round) -> None:
        r.site.clock_file.write_text("0")
        for name in speakers:
            part = r.part(name)
            part.shut_down(within_s=20)
            part.command = r.site.command(name, clock=True)
            part.start()
        r.site.wait_until_up()

    return prepare


def without_clocks(*speakers: str) -> Strike:
    """The ordinary programs again; the clock is right again first."""

    def tidy(r: Round) -> None:
        r.site.clock_file.write_text("0")
        for name in speakers:
            part = r.part(name)
            part.shut_down(within_s=20)
            part.command = r.site.command(name)
            part.start()
        r.site.wait_until_up()

    return tidy


def stepped(seconds: float) -> Strike:
    """The clock jumps while a job is in the middle of its inference."""

    def strike(r: Round) -> None:
        for study in r.studies:
            study.clock_moved = True

        def blow(_: str) -> None:
            r.site.clock_file.write_text(str(seconds))
            r.struck(f"the clock jumps by {seconds:+.0f} s")

        in_inference(r, blow)

    return strike


CLOCKS = ("router", "worker1", "worker2")
HOUR_S, STEP_S = 3600.0, 15.0


def away_an_hour(r: Round) -> None:
    """The RIS is away for an hour by the clock of router and workers, which runs sixty times as fast meanwhile.

    Small steps, so that a lease (20 s, renewed every 5 s of true time) does not run out under a short delivery.
    """
    for study in r.studies:
        study.clock_moved = True
    r.part("ris").hold_down()
    r.struck("the RIS is gone for an hour")

    def all_owed() -> bool:
        jobs = [job for study in r.studies for job in r.site.view.jobs(study.uid) if job["state"] != "superseded"]
        return len(jobs) >= len(r.studies) and all(job["results"] for job in jobs)

    try:
        r.until(all_owed, what="results that wait for the RIS", within_s=60)
        ahead_s = 0.0
        while ahead_s < HOUR_S and not r.over.is_set():
            ahead_s += STEP_S
            r.site.clock_file.write_text(str(ahead_s))
            r.sleep(0.25)
    finally:
        r.part("ris").start()
    r.until(r.part("ris").is_up, what="the RIS")
    r.healed()


def second_router(r: Round) -> None:
    """Started by mistake, with the same ledger."""
    site = r.site
    port = free_port()
    site.write_config("router-2", hl7=port)
    part = site.parts["router-2"] = site.make_part("router-2")
    part.log.unlink(missing_ok=True)
    part.start()
    r.until(lambda: _logged(part, "standing_by"), what="the second router to stand by")
    r.struck("two routers run")


def first_router_dies(r: Round) -> None:
    """Both have run for a while; then the first is killed and stays away."""
    r.sleep(r.dice.uniform(3.0, 6.0))
    r.part("router").hold_down()
    r.struck("SIGKILL of the first router")
    r.until(lambda: _logged(r.part("router-2"), '"leading"'), what="the other router to lead", within_s=10.0)
    r.healed("the other router leads")


def _logged(part: Part, words: str) -> bool:
    """Whether a part has written something to its log since it was made for this round."""
    return words in part.log.read_text(encoding="utf-8", errors="replace")


def one_router_again(r: Round) -> None:
    """As it was."""
    r.part("router").start()
    _remove(r, "router-2")
    r.site.wait_until_up()


def _remove(r: Round, name: str) -> None:
    r.site.parts.pop(name).shut_down()
    for link in r.site.links(speaker=name):
        link.close()
    for key in [key for key in r.site.proxies if key[0] == name]:
        del r.site.proxies[key]


def older_worker(r: Round) -> None:
    """In the place of the second worker: older models, and an older idea of the ledger."""
    site = r.site
    r.part("worker2").shut_down(within_s=20)
    site.write_config("worker-older", models=site.old_models)
    site.parts["worker-older"] = site.make_part("worker-older", older=True)
    site.parts["worker-older"].log.unlink(missing_ok=True)
    site.parts["worker-older"].start()


def older_worker_works(r: Round) -> None:
    """It takes a job, or it refuses to run at all."""
    part = r.part("worker-older")

    def look() -> str:
        if not part.alive or part.starts > 1:
            return "the older worker refuses to run"
        if _logged(part, "other_version"):
            return "the older worker stands aside"
        held = [job for job, owner in r.site.view.held() if r.site.part_of(owner) == part.name]
        return f"the older worker has job {held[0][:8]}" if held else ""

    r.struck(r.until(look, what="the older worker to take a job"))


def no_older_worker(r: Round) -> None:
    """As it was."""
    _remove(r, "worker-older")
    r.part("worker2").start()
    r.part("worker1").shut_down(within_s=20)  # so that the right models are announced last
    r.part("worker1").start()
    r.site.wait_until_up()


# -- the table

WORKER_S = 30.0
"""A killed worker's job runs again within this time; so do jobs after Redis lost its messages."""
RIS_S = 60.0
"""Once the RIS is back, everything is delivered within this time."""

_TABLE = [
    # killed
    Fault(name="router-killed", about="SIGKILL at any time", strike=killed(some_time("router"))),
    Fault(name="router-killed-listening", about="SIGKILL with changes read and not yet recorded", strike=killed(MOMENTS["listening"])),
    Fault(name="router-killed-deciding", about="SIGKILL while it decides about a study", strike=killed(MOMENTS["deciding"])),
    Fault(name="worker-killed-message", about="SIGKILL as a message leaves Redis", strike=killed(MOMENTS["message"]), limit_s=60),
    Fault(name="worker-killed-taken", about="SIGKILL with a message noted as taken, before the claim", strike=killed(MOMENTS["taken"]), limit_s=60),
    Fault(name="worker-killed-fetch", about="SIGKILL in the middle of fetching", strike=killed(MOMENTS["fetch"]), running_s=WORKER_S),
    Fault(name="worker-killed-inference", about="SIGKILL in the middle of inference", strike=killed(MOMENTS["inference"]), running_s=WORKER_S),
    Fault(name="worker-killed-store", about="SIGKILL before an object reached Orthanc", strike=killed(MOMENTS["store"]), running_s=WORKER_S),
    Fault(name="worker-killed-stored", about="SIGKILL after an object reached Orthanc", strike=killed(MOMENTS["stored"]), running_s=WORKER_S),
    Fault(name="killed-oru", about="SIGKILL of the sender, before the ORU reached the RIS", strike=killed(MOMENTS["oru"]), running_s=WORKER_S),
    Fault(name="killed-oru-answered", about="SIGKILL of the sender, before the AA reached it", strike=killed(MOMENTS["oru-answered"]), running_s=WORKER_S),
    Fault(name="worker-child-killed", about="SIGKILL of the reading process alone (out of memory)", strike=killed(MOMENTS["inference"], "child"), running_s=WORKER_S),
    Fault(name="worker-parent-killed", about="SIGKILL of the consuming process alone", strike=killed(MOMENTS["inference"], "parent"), running_s=WORKER_S),
    Fault(name="workers-killed", about="SIGKILL of every worker at once", strike=both_workers_killed, running_s=WORKER_S),
    Fault(name="orthanc-killed", about="SIGKILL at any time", strike=killed(some_time("orthanc"))),
    Fault(name="redis-killed", about="SIGKILL at any time; it keeps nothing", strike=killed(some_time("redis")), limit_s=60),
    Fault(name="ris-killed", about="SIGKILL at any time", strike=killed(some_time("ris", 2, 8)), limit_s=RIS_S),
    Fault(name="database-killed", about="SIGKILL of PostgreSQL", strike=killed(some_time("database")), needs="postgresql"),
    # stopped for 20 s
    Fault(name="router-stopped", about="SIGSTOP for 20 s", strike=stopped(some_time("router"))),
    Fault(name="worker-stopped-fetch", about="SIGSTOP for 20 s while fetching", strike=stopped(STANDING["fetch"])),
    Fault(name="worker-stopped-inference", about="SIGSTOP for 20 s in inference", strike=stopped(STANDING["inference"])),
    Fault(name="worker-stopped-store", about="SIGSTOP for 20 s while storing", strike=stopped(STANDING["store"])),
    Fault(name="stopped-oru", about="SIGSTOP for 20 s of the sender, between ORU and AA", strike=stopped(STANDING["oru"])),
    Fault(name="orthanc-stopped", about="SIGSTOP for 20 s", strike=stopped(some_time("orthanc"))),
    Fault(name="redis-stopped", about="SIGSTOP for 20 s", strike=stopped(some_time("redis"))),
    Fault(name="ris-stopped", about="SIGSTOP for 20 s", strike=stopped(some_time("ris", 2, 8)), limit_s=RIS_S),
    Fault(name="database-stopped", about="SIGSTOP of PostgreSQL for 20 s", strike=stopped(some_time("database")), needs="postgresql"),
    # asked to stop
    Fault(name="router-restarted", about="SIGTERM under load", strike=terminated("router")),
    Fault(name="workers-restarted", about="SIGTERM one after the other, under load", strike=terminated("worker1", "worker2")),
    Fault(name="orthanc-restarted", about="SIGTERM under load", strike=terminated("orthanc")),
    Fault(name="redis-restarted", about="SIGTERM under load; it keeps nothing", strike=terminated("redis")),
    Fault(name="ris-restarted", about="SIGTERM under load", strike=terminated("ris"), limit_s=RIS_S),
    # the broker forgets, or repeats
    Fault(name="redis-flushed", about="FLUSHALL while messages wait", strike=flushed, running_s=WORKER_S),
    Fault(name="redis-emptied", about="away for 5 s and back empty", strike=away("redis", 5, broker=True), running_s=WORKER_S),
    Fault(name="messages-twice", about="every job's message comes again and again", strike=rung_twice),
    # Orthanc
    Fault(name="orthanc-young", about="restarted before a study is stable", strike=young),
    Fault(name="orthanc-500", about="answers 500 for a while", strike=links_misbehave(Mode(kind="error"), peer="orthanc")),
    Fault(name="orthanc-slow", about="takes 2 s for each answer", strike=links_misbehave(Mode(kind="slow", delay_s=2.0), peer="orthanc")),
    Fault(name="orthanc-cuts-files", about="image files end half-way", strike=body_cut),
    Fault(name="orthanc-cuts-all", about="every answer ends half-way", strike=links_misbehave(Mode(kind="cut"), peer="orthanc")),
    Fault(name="orthanc-answer-lost", about="an object is stored, the worker never hears of it", strike=answer_lost),
    # the RIS
    Fault(name="ris-ae", about="refuses for good (AE): parked, then an operator", strike=ris_answers("ae", count=2), operator=True, limit_s=RIS_S),
    Fault(name="ris-ar", about="AR", strike=ris_answers("ar"), limit_s=RIS_S),
    Fault(name="ris-silent", about="takes the message, says nothing", strike=ris_answers("silent"), limit_s=RIS_S),
    Fault(name="ris-garbage", about="answers what is not HL7", strike=ris_answers("garbage"), limit_s=RIS_S),
    Fault(name="ris-closes", about="closes without an answer", strike=ris_answers("close"), limit_s=RIS_S),
    Fault(name="ris-closes-early", about="closes without an answer, and has not taken it", strike=ris_answers("close", store=False), limit_s=RIS_S),
    Fault(name="ris-partial", about="half an answer", strike=ris_answers("partial"), limit_s=RIS_S),
    Fault(name="ris-other-ack", about="acknowledges another message", strike=ris_answers("wrong_msa"), limit_s=RIS_S),
    Fault(name="ris-away", about="nobody listens for 15 s", strike=away("ris", 15), limit_s=RIS_S),
    Fault(name="ris-away-an-hour", about="nobody listens for an hour (by a clock that is sped up)", strike=away_an_hour, prepare=with_clocks(*CLOCKS), tidy=without_clocks(*CLOCKS), limit_s=RIS_S),
    # the other node
    Fault(name="pacs-refuses", about="refuses C-STORE for a while", strike=pacs_refuses),
    # the network
    Fault(name="cut-router-orthanc", about="network cut", strike=cut("router", "orthanc")),
    Fault(name="cut-worker-orthanc", about="network cut", strike=cut("worker", "orthanc")),
    Fault(name="cut-router-redis", about="network cut", strike=cut("router", "redis")),
    Fault(name="cut-worker-redis", about="network cut", strike=cut("worker", "redis")),
    Fault(name="cut-ris", about="network cut, from everybody to the RIS", strike=cut("", "ris"), limit_s=RIS_S),
    Fault(name="cut-pacs", about="network cut, Orthanc to the PACS", strike=cut("orthanc", "pacs")),
    Fault(name="cut-router-database", about="network cut", strike=cut("router", "database"), needs="postgresql"),
    Fault(name="cut-worker-database", about="network cut", strike=cut("worker", "database"), needs="postgresql"),
    # disks
    Fault(name="disk-full-ledger", about="no byte left where the ledger is", strike=disk_full("ledger-disk"), needs="sqlite"),
    Fault(name="disk-full-scratch", about="no byte left in the scratch directory", strike=disk_full("scratch")),
    # clocks
    Fault(name="clock-forward", about="everybody's clock jumps an hour ahead", strike=stepped(3600), prepare=with_clocks(*CLOCKS), tidy=without_clocks(*CLOCKS)),
    Fault(name="clock-back", about="everybody's clock jumps an hour back", strike=stepped(-3600), prepare=with_clocks(*CLOCKS), tidy=without_clocks(*CLOCKS)),
    Fault(name="clock-worker", about="one worker's clock jumps an hour ahead", strike=stepped(3600), prepare=with_clocks("worker1"), tidy=without_clocks("worker1")),
    # mistakes
    Fault(name="two-routers", about="two routers; then the first dies", prepare=second_router, strike=first_router_dies, tidy=one_router_again),
    Fault(name="older-worker", about="a worker with older models and an older ledger", prepare=older_worker, strike=older_worker_works, tidy=no_older_worker),
]  # fmt: skip

KEEPS_ACKS = ("redis-", "messages-", "orthanc-", "pacs-", "cut-router-orthanc", "cut-worker-orthanc", "cut-router-redis", "cut-worker-redis", "cut-pacs")  # fmt: skip
"""Under these nothing that the RIS said can get lost, so no message may be sent again after its AA."""

FAULTS: Mapping[str, Fault] = {
    fault.name: replace(fault, acks_lost=not fault.name.startswith(KEEPS_ACKS)) for fault in _TABLE
}
"""By name, in the order of the report."""
