"""``./medai test --images``: the command. The flow is ``_run``.

It answers one question: does ``docker compose up --build`` of this checkout give a system that reads a study? Next: engine.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from images import compose, host, stand_ins, system
from images.compose import Compose, HealthChecks
from images.contents import missing_files
from images.engine import Engine, EngineError, leave_the_network, opened, say
from medai.trials.box import BoxError
from medai.trials.demo.follow import Outcome
from medai.trials.scanner.scu import SendError
from medai.trials.study import StudyError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = """\
examples:
  medai test --images              build, bring up, read a head, take down
  medai test --images --keep       the same, and keep our images for the next run
  medai test --images --forget     remove the base images and logs that are kept for the next run

Runs as root. Exit status: 0 all images were built, hold every file of the packages, and four results came back; 1 not;
130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="medai test --images", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Build the images of docker-compose.yml, bring it up, read a real head with it, take all down.",
    )  # fmt: skip
    made.add_argument(
        "--timeout", type=float, default=900.0, metavar="S", help="longest wait for a result (%(default)s)"
    )
    made.add_argument(
        "--keep", action="store_true", help="keep our images, so that the next run builds only what changed"
    )
    made.add_argument("--forget", action="store_true", help="only remove what is kept from one run to the next")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run; the exit status."""
    options = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    cache = _cache()
    try:
        if options.forget:
            return _forget(cache)
        with opened(cache) as engine:
            good = _run(engine, options.timeout, None if options.keep else stand_ins.KEPT)
    except KeyboardInterrupt:
        say("interrupted; everything is stopped and removed")
        return 130
    except (EngineError, host.HostError, BoxError, SendError, StudyError) as error:
        say(f"FAILED: {error}")
        say(f"logs are in {cache / 'logs'}")
        return 1
    say("the images are good" if good else f"not good; logs are in {cache / 'logs'}")
    return 0 if good else 1


def _run(engine: Engine, timeout_s: float, keep: frozenset[str] | None) -> bool:
    """The flow, on one page: base images, our images, what is in them, the system, one study, everything away."""
    file = Compose(engine, ROOT)
    services = file.services()
    with _removed(engine, keep):
        mounts = host.mounts(engine.state)
        stand_ins.make(engine, compose.base_images(services, ROOT), ROOT, mounts)
        built = compose.build_all(engine, services, ROOT, [str(mount) for mount in mounts])
        missing = {name: missing_files(engine, name, ROOT) for name in built}
        for name, files in missing.items():
            say(f"{name} lacks {', '.join(files[:5])} ..." if files else f"{name} holds every file of the packages")
        if any(missing.values()):
            return False
        leave_the_network()
        with engine.serve(), HealthChecks(engine), _up(engine, file):
            compose.wait_until_healthy(engine, list(services), 300.0)
            outcomes = system.read_a_head(system.box(engine, services, _router(file)), engine.work / "study", timeout_s)
        return _told(outcomes)


@contextlib.contextmanager
def _removed(engine: Engine, keep: frozenset[str] | None) -> Iterator[None]:
    """Nothing of an earlier run before, nothing of this one after, however it ends."""
    engine.clear(keep)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave half of it
        try:
            engine.clear(keep)
            say("containers, networks and volumes are removed" + ("" if keep is None else ", and our images"))
        except EngineError as error:  # must not hide why it ended; the next run clears first
            say(f"not all could be removed: {error}")


@contextlib.contextmanager
def _up(engine: Engine, file: Compose) -> Iterator[None]:
    """The whole file up, and down again; what the containers said is kept."""
    say("docker-compose up ...")
    try:
        file.run("up", "--detach", "--no-build")
        yield
    finally:
        compose.keep_logs(engine)
    say("docker-compose down ...")  # after a failure all is removed anyway
    file.run("down", "--volumes", "--timeout", "20")


def _router(file: Compose) -> str:
    return file.run("ps", "--quiet", "router").strip()


def _told(outcomes: Sequence[Outcome]) -> bool:
    for outcome in outcomes:
        for check in outcome.checks:
            say(f"  {'ok     ' if check.ok else 'MISSING'} {check.text}")
    return bool(outcomes) and all(outcome.ok for outcome in outcomes)


def _forget(cache: Path) -> int:
    if cache.exists():
        with opened(cache) as engine:
            engine.clear()
        shutil.rmtree(cache)
    say(f"removed {cache}")
    return 0


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "medai-images"


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
