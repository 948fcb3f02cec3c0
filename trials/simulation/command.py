"""``medai trial simulate``, ``plan``, ``validate``, ``service``: the model at the command line. Next: capacity.py."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medai.router.words import counted
from medai.trials.hospital import faults
from medai.trials.hospital.record import TrialRun
from medai.trials.scenario import PRIORITIES, Scenario, ScenarioError, beside, load
from medai.trials.simulation import service_times, validate
from medai.trials.simulation.capacity import (
    YEAR_DAYS,
    Region,
    Summary,
    Tried,
    parse_objective,
    plan,
    repeat,
    simulate_region,
    spread,
    summaries,
)
from medai.trials.simulation.record import write
from medai.trials.simulation.serving import Outcome, Resources
from medai.trials.simulation.simulate import left_out

BEGIN, END = "<!-- validation:begin -->", "<!-- validation:end -->"


def add_simulate(commands: Any, subcommand: Any) -> None:
    """``medai trial simulate``."""
    about = "a scenario, or a region, in a discrete-event model with measured service times"
    example = "medai trial simulate monday-morning --workers 2 --days 20"
    made = subcommand(commands, "simulate", _simulate, about, example)
    _common(made)
    made.add_argument("--workers", type=_count, default=1, metavar="N", help="workers (default 1)")
    made.add_argument(
        "--days", type=_count, metavar="D", help="days, each with different arrivals (default 10; region: 365)"
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="write studies.parquet and queue.parquet there")


def add_plan(commands: Any, subcommand: Any) -> None:
    """``medai trial plan``."""
    about = "the smallest number of workers that keeps an objective"
    example = "medai trial plan monday-morning --objective p95=300s --service shipped --gpu"
    made = subcommand(commands, "plan", _plan, about, example)
    _common(made)
    made.add_argument("--objective", required=True, metavar="pNN=LIMIT", help="as in p95=300s or p99=5m")
    made.add_argument("--priority", choices=PRIORITIES, default="", help="of these studies alone (default: of all)")
    made.add_argument("--gpu", action="store_true", help="each worker has a GPU of its own")
    made.add_argument("--max", type=_count, default=256, metavar="N", help="the most workers to try (default 256)")
    made.add_argument("--days", type=_count, metavar="D", help="days of each replication (default 5; a region: 28)")


def add_validate(commands: Any, subcommand: Any) -> None:
    """``medai trial validate``."""
    about = "the simulation against a real run and against queueing theory"
    made = subcommand(commands, "validate", _validate, about, "medai trial validate monday")
    made.add_argument("folder", type=Path, metavar="DIR", help="the --out of a run")
    made.add_argument("--write", type=Path, metavar="FILE", help=f"put the tables between {BEGIN} and {END} of a file")


def add_service(commands: Any, subcommand: Any) -> None:
    """``medai trial service``."""
    about = "the service times of a real run, for --service"
    made = subcommand(commands, "service", _service, about, "medai trial service monday --write mine.json")
    made.add_argument("folder", type=Path, metavar="DIR", help="the --out of a run")
    made.add_argument("--write", type=Path, metavar="FILE", help="write them as JSON")


def _common(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("scenario", help="a shipped scenario or a .toml file")
    add("--service", default=service_times.DEFAULT, metavar="WHAT",
        help="service times: the folder of a run, a file, 'light' or 'shipped' (default light)")  # fmt: skip
    add(
        "--gpus",
        type=_none_or_more,
        default=0,
        metavar="M",
        help="GPUs that the workers share (default 0: inference by CPU)",
    )
    add("--gpu-speedup", type=_factor, default=10.0, metavar="X",
        help="how much faster a GPU infers than what was measured (default 10: an assumption)")  # fmt: skip
    add("--accelerate", type=_factor, default=1.0, metavar="X", help="as in a run (default 1: a hospital's own pace)")
    add("--hospitals", type=_count, default=0, metavar="H", help="a region: so many hospitals, one pool of workers")
    add("--studies-per-year", type=_factor, metavar="S", help="of the whole region")


def _simulate(options: argparse.Namespace) -> int:
    scenario, service, began = _checked(options.scenario), service_times.load(options.service), time.monotonic()
    resources = Resources(workers=options.workers, gpus=options.gpus, speedup=options.gpu_speedup)
    if options.hospitals:
        outcomes = [simulate_region(scenario, service, resources, _region(options, YEAR_DAYS), seed=scenario.seed)]
    else:
        outcomes = repeat(
            scenario, service, resources, days=options.days or 10, accelerate=options.accelerate,
            beside=beside(options.scenario),
        )  # fmt: skip
    found, took_s = summaries(outcomes), time.monotonic() - began
    facts = {
        "scenario": scenario.name, "workers": options.workers, "gpus": options.gpus, "service": service.measured_on,
        "studies_read": sum(len(outcome.served) for outcome in outcomes), "took_s": round(took_s, 1),
        "busy": sum(outcome.busy for outcome in outcomes) / len(outcomes),
        "longest_queue": max(outcome.longest_queue for outcome in outcomes),
        "left_out": [] if options.hospitals else left_out(scenario),
    }  # fmt: skip
    if options.out:
        write(outcomes, options.out)
    if options.json:
        print(json.dumps({**facts, "turnaround_s": [asdict(each) for each in found]}, indent=2))
        return 0
    print(f"{facts['studies_read']:,} readings; workers {100 * facts['busy']:.0f} % busy")
    print(f"at most {facts['longest_queue']:,} queued; service times: {service.measured_on}; {took_s:.1f} s")
    if facts["left_out"]:
        print(f"faults of the scenario that the model does not play: {', '.join(facts['left_out'])}")
    print(_summary_table(found))
    return 0


def _checked(name: str) -> Scenario:
    scenario = load(name)
    faults.check(scenario)
    return scenario


def _summary_table(found: list[Summary]) -> str:
    lines = [f"{'priority':10}{'studies':>10}{'p50, s':>10}{'p95, s':>10}{'p99, s':>10}   95 % CI of p95"]
    for each in found:
        low, high = each.p95.low, each.p95.high
        spread_text = "" if low is None or high is None else f"{low:.1f} to {high:.1f}"
        lines.append(f"{each.priority:10}{each.studies:10,}{each.p50.value:10.1f}{each.p95.value:10.1f}"
                     f"{each.p99.value:10.1f}   {spread_text}")  # fmt: skip
    return "\n".join(lines)


def _plan(options: argparse.Namespace) -> int:
    scenario, service = _checked(options.scenario), service_times.load(options.service)
    objective = parse_objective(options.objective, options.priority)
    days = options.days or (28 if options.hospitals else 5)

    def run(workers: int, seed: int) -> Outcome:
        print(f"  {workers} workers ...", file=sys.stderr, flush=True) if seed == 0 else None
        gpus = workers if options.gpu else options.gpus
        resources = Resources(workers=workers, gpus=gpus, speedup=options.gpu_speedup)
        if options.hospitals:
            return simulate_region(scenario, service, resources, _region(options, days), seed=seed)
        return _days(scenario, service, resources, days, seed, options)

    found, tried = plan(run, objective, least=1, most=options.max, replications=5)
    if options.json:
        print(json.dumps({"workers": found, "tried": [asdict(each) for each in tried], "objective": asdict(objective)}))
    else:
        of = f" for {objective.priority}" if objective.priority else ""
        what = f"{objective.name} under {objective.limit_s:g} s{of}"
        kind = "GPU worker" if options.gpu else "worker"
        kept = f"{found and counted(found, kind)} {'keeps' if found == 1 else 'keep'} {what}"
        print(kept if found else f"no number of {kind}s up to {options.max} keeps {what}")
        assumed = (
            f"; a GPU infers {options.gpu_speedup:g} times as fast (assumed)" if options.gpu or options.gpus else ""
        )
        print(f"service times: {service.measured_on}{assumed}")
        print("\n".join(_tried(each, objective.name) for each in tried))
    return 0 if found else 1


def _tried(each: Tried, name: str) -> str:
    low, high = each.found.low, each.found.high
    interval = "" if low is None or high is None else f" (95 % CI {max(0.0, low):.0f} to {high:.0f})"
    kept = "kept" if each.keeps else "missed"
    return (
        f"  {each.workers:4} workers: {name} {each.found.value:.0f} s{interval}, {100 * each.busy:.0f} % busy: {kept}"
    )


def _days(
    scenario: Scenario,
    service: service_times.Service,
    resources: Resources,
    days: int,
    seed: int,
    options: argparse.Namespace,
) -> Outcome:
    """So many days as one outcome."""
    fresh = scenario.model_copy(update={"seed": scenario.seed + 1000 * (seed + 1)})
    outcomes = repeat(
        fresh, service, resources, days=days, accelerate=options.accelerate, beside=beside(options.scenario)
    )
    return Outcome(
        served=[each for outcome in outcomes for each in outcome.served],
        busy=sum(outcome.busy for outcome in outcomes) / len(outcomes),
        length_s=sum(outcome.length_s for outcome in outcomes),
        longest_queue=max(outcome.longest_queue for outcome in outcomes),
    )


def _region(options: argparse.Namespace, days: int) -> Region:
    if not options.studies_per_year:
        raise ScenarioError("--hospitals needs --studies-per-year, of the whole region")
    return Region(hospitals=options.hospitals, studies_per_year=options.studies_per_year, days=options.days or days)


def _validate(options: argparse.Namespace) -> int:
    run = TrialRun.read(options.folder)
    if options.write:
        _marked(options.write)  # before the minutes that the rest takes
    real, theory = validate.against_run(run), validate.against_theory()
    replay = validate.replayed(run)
    text = validate.markdown(run, real, theory, replay)
    if options.write:
        _put(options.write, text)
    if options.json:
        compared = {
            name: [{**asdict(each), "ratio": each.ratio, "ok": each.ok} for each in found]
            for name, found in (("real", real), ("replayed", replay))
        }
        closed = [{**asdict(each), "ok": each.ok} for each in theory]
        print(json.dumps({**compared, "theory": closed, "left_out": left_out(run.scenario)}, indent=2))
    else:
        print(text)
    return 0 if all(each.ok for each in (*real, *replay)) and all(each.ok for each in theory) else 1


def _put(path: Path, text: str) -> None:
    before, after = _marked(path)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _marked(path: Path) -> tuple[str, str]:
    """What stands before and after the marks of a file; raises ScenarioError."""
    try:
        whole = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(f"{path} can't be read: {error.strerror}") from error
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ScenarioError(f"{path} has no {BEGIN} … {END}")
    return before, after


def _service(options: argparse.Namespace) -> int:
    service = service_times.measure(TrialRun.read(options.folder))
    if options.write:
        service_times.write(service, options.write)
    if options.json:
        print(service.model_dump_json(indent=1))
        return 0
    print(service.measured_on)
    for name, steps in service.cases.items():
        busy = spread([each.busy_s for each in steps])
        print(f"  {name:20} {len(steps):4} readings, a worker is taken for {busy.value:.2f} s on average")
    return 0


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _none_or_more(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _factor(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


COMMANDS = (add_simulate, add_plan, add_validate, add_service)
