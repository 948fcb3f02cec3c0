"""``medai-train promote``: put a bundle into service, if it is shown not to be worse than the one that serves.

Candidate and current model draw the same held-out cases. For every class the candidate must be non-inferior: the
one-sided 95% lower bound of its mean paired difference in Dice lies above minus the margin. Each decision, refusals
too, is a line of ``promotions.jsonl`` beside the models: a candidate cannot be tried until it passes unseen.
Where the folder of models holds a ``promotion.toml``, it fixes margin and held-out cases:

    margin = 0.01
    [models.mr_hippocampus]
    margin = 0.005
    cases = ["hippocampus_003", "hippocampus_011"]

Next: case.py (draws and measures), models/format/versions.py (exchanges the folders), rollback.py (the way back).
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from medai.models.format import versions
from medai.models.format.metadata import EvaluationClass
from medai.models.registry import SHIPPED
from medai.training.cases import Dataset
from medai.training.errors import ConfigError, NotPromoted, TrainingError
from medai.training.judging.case import CaseResult, judge_case, load_case, paired_dice
from medai.training.judging.choice import Chosen, choose
from medai.training.judging.model import Model, open_model, require_classes
from medai.training.judging.options import data_arguments, model_arguments, open_data, read_names
from medai.training.metrics import figure, lower_bound
from medai.training.runs import SIDES, is_run
from medai.training.words import counted

MARGIN = 0.01
"""Dice that a candidate may lose at most, where nothing else is said."""
LEAST_CASES = 5
"""Fewer held-out cases show nothing."""
RULES, RECORD = "promotion.toml", "promotions.jsonl"
EXAMPLES = """\
examples:
  medai-train promote bundles/mr_hippocampus --data DATA --split test --into /srv/models
  medai-train promote bundles/mr_hippocampus --data DATA --into /srv/models --first    no model of this name yet
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``medai-train promote``."""
    parser.epilog = EXAMPLES
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the candidate, as `medai-train export` made it")
    data_arguments(parser)
    parser.add_argument(
        "--split",
        choices=[*SIDES, "all"],
        default="",
        help="held-out side of the split of the model that serves (default test; of the candidate with --first)",
    )
    parser.add_argument("--cases", type=Path, metavar="FILE", help="names of the held-out cases, one a line")
    parser.add_argument("--into", type=Path, default=SHIPPED, metavar="FOLDER", help="the folder of models that serve")
    parser.add_argument("--name", default="", help="the model to replace (default: the bundle's name)")
    parser.add_argument("--margin", type=float, metavar="DICE", help=f"Dice that may be lost ({MARGIN:g})")
    parser.add_argument("--first", action="store_true", help="there is no model of this name yet")
    parser.add_argument(
        "--vouch", action="store_true", help="the candidate keeps no split: I vouch that no held-out case trained it"
    )
    parser.add_argument("--by", default="", metavar="NAME", help="who promotes (default: the user of this machine)")
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")
    model_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, decide, record, and install or refuse. Raises NotPromoted."""
    if is_run(options.bundle):
        raise TrainingError(f"{options.bundle} is a run: make a bundle of it with medai-train export")
    name = options.name or options.bundle.resolve().name
    rules = read_rules(options.into, name)
    margin = choose_margin(rules, options.margin)
    names = _named(rules, options, name)
    serving = _serving(options, name)
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(open_model(path, device=options.device, threads=options.threads))
            for path in (options.bundle, *([serving.path] if serving else []))
        ]
        candidate, current = opened[0], opened[1] if serving else None
        require_classes(candidate)
        dataset = open_data(options, candidate)
        chosen = choose(dataset, (current or candidate).kept, side=options.split or "", names=names)
        require_unseen(candidate, dataset, chosen, vouched=options.vouch)
        results = _judge(options, [model for model in (candidate, current) if model], chosen)
        decision = decide(candidate, current, results, margin=margin, seed=options.seed)
    entry = decision.entry(name, options.by or getpass.getuser(), dataset, chosen)
    if decision.refusals:
        record(options.into, {"action": "refused", **entry})
        _say(options, {"action": "refused", **entry}, "")
        raise NotPromoted(f"{name} is not promoted: " + "; ".join(decision.refusals))
    installed = versions.install(options.bundle, options.into, name)
    record(options.into, {"action": "promoted", **entry})
    _say(options, {"action": "promoted", **entry}, f"{name} {installed.version} serves now: {decision.text()}")
    return 0


def _say(options: argparse.Namespace, entry: Mapping[str, Any], text: str) -> None:
    if options.json:
        print(json.dumps(entry, indent=2, ensure_ascii=False))
    elif text:
        print(text)


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    margin: float | None = Field(default=None, gt=0, lt=1)
    cases: tuple[str, ...] = ()


class Rules(_Rule):
    """``promotion.toml``: for all models, and for single ones."""

    models: dict[str, _Rule] = {}


def read_rules(folder: Path, name: str) -> _Rule:
    """What ``promotion.toml`` in the folder of models says of one model; nothing where there is none."""
    path = folder / RULES
    if not path.is_file():
        return _Rule()
    try:
        rules = Rules.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path.name}: {faults}") from error
    own = rules.models.get(name, _Rule())
    return _Rule(margin=own.margin if own.margin is not None else rules.margin, cases=own.cases or rules.cases)


def choose_margin(rules: _Rule, wanted: float | None) -> float:
    """The margin. An option may be stricter than ``promotion.toml``, never laxer. Raises ConfigError."""
    if wanted is not None and not 0 < wanted < 1:
        raise ConfigError(f"--margin {wanted:g}: a margin in Dice lies between 0 and 1")
    if wanted is not None and rules.margin is not None and wanted > rules.margin:
        raise ConfigError(f"--margin {wanted:g} is laxer than the {rules.margin:g} of {RULES}")
    if wanted is not None:
        return wanted
    return rules.margin if rules.margin is not None else MARGIN


def _named(rules: _Rule, options: argparse.Namespace, name: str) -> tuple[str, ...]:
    if rules.cases and (options.cases or options.split):
        raise ConfigError(f"{RULES} fixes the held-out cases of {name}: leave out --split and --cases")
    return rules.cases or (read_names(options.cases) if options.cases else ())


def _serving(options: argparse.Namespace, name: str) -> versions.Installed | None:
    """The model that is to be replaced. Raises TrainingError where ``--first`` does not fit what is there."""
    current = versions.current(options.into, name)
    if current is None and not options.first:
        raise TrainingError(f"no model {name} serves in {options.into}: use --first if this is the first one")
    if current is not None and options.first:
        raise TrainingError(
            f"{name} {current.version} serves already: leave out --first, so that it is compared with it"
        )
    if current is not None and current.fingerprint == versions.fingerprint_of(options.bundle):
        raise TrainingError(f"{name} {current.version} is this very bundle: there is nothing to promote")
    return current


def require_unseen(candidate: Model, dataset: Dataset, chosen: Chosen, *, vouched: bool) -> None:
    """Raise NotPromoted when a held-out case, or its patient, trained the candidate or chose its checkpoint."""
    if candidate.kept is None:
        if vouched:
            return
        raise NotPromoted(
            f"{candidate.name} keeps no split (docs/split.json), so nobody can tell whether the held-out cases trained "
            "it: use --vouch if you know that they did not"
        )
    known = candidate.kept.seen
    patients = {case.patient for case in dataset.cases if case.name in known}
    seen = [case.name for case in chosen.cases if case.name in known or case.patient in patients]
    if seen:
        raise NotPromoted(
            f"{len(seen)} of the {len(chosen.cases)} held-out cases (such as {seen[0]}) are among those that trained "
            f"{candidate.name} or chose its checkpoint: judge it on cases that it has never seen"
        )


def _judge(options: argparse.Namespace, models: Sequence[Model], chosen: Chosen) -> list[list[CaseResult]]:
    """Per model its results; each case is read once and drawn by all."""
    results: list[list[CaseResult]] = [[] for _ in models]
    for case in tqdm(chosen.cases, desc="held-out", unit="case", file=sys.stderr):
        example = load_case(case)
        for model, found in zip(models, results, strict=True):
            result = judge_case(
                model,
                case,
                example,
                tolerance_mm=options.tolerance_mm,
                others_are_background=options.ignore_labels,
            )
            found.append(replace(result, drawn=None))
    return results


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One class. ``lower`` is the one-sided 95% lower bound of the mean difference (candidate minus current)."""

    structure: str
    cases: int
    candidate: float | None
    candidate_ci95: tuple[float, float] | None
    current: float | None = None
    current_ci95: tuple[float, float] | None = None
    difference: float | None = None
    lower: float | None = None

    def text(self) -> str:
        """In words."""
        if self.current is None or self.difference is None:
            return (
                f"{self.structure} Dice {_dice(self.candidate, self.candidate_ci95)} on {counted(self.cases, 'case')}"
            )
        return (
            f"{self.structure} Dice {_dice(self.candidate, self.candidate_ci95)} against "
            f"{_dice(self.current, self.current_ci95)} on the same {counted(self.cases, 'case')}, a difference of "
            f"{self.difference:+.4f}"
            + (f" that is above {self.lower:+.4f} with 95% confidence" if self.lower is not None else "")
        )


def _dice(mean: float | None, ci95: tuple[float, float] | None) -> str:
    if mean is None:
        return "unknown"
    return f"{mean:.4f}" + (f" [{ci95[0]:.4f}, {ci95[1]:.4f}]" if ci95 else "")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was found, and why the candidate is refused (nothing: it is promoted)."""

    margin: float
    verdicts: tuple[Verdict, ...]
    refusals: tuple[str, ...]
    candidate: Mapping[str, str]
    current: Mapping[str, str] | None

    def text(self) -> str:
        """In words."""
        found = "; ".join(verdict.text() for verdict in self.verdicts)
        return f"{found}; margin {self.margin:g}" if self.current else f"{found}; the first model of its name"

    def entry(self, name: str, by: str, dataset: Dataset, chosen: Chosen) -> dict[str, Any]:
        """A line of the record."""
        cases = sorted(case.name for case in chosen.cases)
        return {
            "model": name,
            "by": by,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "candidate": dict(self.candidate),
            "current": dict(self.current) if self.current else None,
            "margin": self.margin,
            "structures": {
                verdict.structure: {key: value for key, value in asdict(verdict).items() if key != "structure"}
                for verdict in self.verdicts
            },
            "data": {
                "name": dataset.name,
                "chosen": chosen.reason,
                "cases": len(cases),
                "cases_sha256": hashlib.sha256("\n".join(cases).encode()).hexdigest(),
            },
            "refusals": list(self.refusals),
        }


def decide(
    candidate: Model, current: Model | None, results: Sequence[Sequence[CaseResult]], *, margin: float, seed: int = 0
) -> Decision:
    """Compare two models' results on the same cases; without a current model only the candidate's figures count."""
    count = len(results[0])
    refusals = (
        []
        if count >= LEAST_CASES
        else [f"{counted(count, 'held-out case')} prove nothing; at least {LEAST_CASES} are needed"]
    )
    verdicts = []
    for name, entry in (current or candidate).classes.items():
        problem = _same_class(name, entry, candidate.classes)
        if problem:
            refusals.append(problem)
            continue
        verdict = _verdict(name, results, seed)
        verdicts.append(verdict)
        if current is not None and not (verdict.lower is not None and verdict.lower > -margin):
            refusals.append(f"{verdict.text()}, which the margin of {margin:g} does not allow")
    return Decision(
        margin=margin,
        verdicts=tuple(verdicts),
        refusals=tuple(refusals),
        candidate=_identity(candidate),
        current=_identity(current) if current else None,
    )


def _same_class(name: str, entry: EvaluationClass, classes: Mapping[str, EvaluationClass]) -> str:
    if name not in classes:
        return f"the candidate does not draw {name}, which the model that serves does"
    if sorted(classes[name].labels) != sorted(entry.labels):
        return f"{name} means other expert labels to the candidate than to the model that serves"
    return ""


def _identity(model: Model) -> dict[str, str]:
    return {"version": model.bundle.card.version, "fingerprint": model.bundle.card.fingerprint}


def _verdict(structure: str, results: Sequence[Sequence[CaseResult]], seed: int) -> Verdict:
    arrays = paired_dice(structure, results)
    count = int(arrays[0].size)
    own = figure(list(arrays[0]), seed=seed)
    if len(arrays) == 1 or not count:
        return Verdict(structure=structure, cases=count, candidate=own.mean, candidate_ci95=own.ci95)
    theirs, difference = figure(list(arrays[1]), seed=seed), arrays[0] - arrays[1]
    return Verdict(
        structure=structure,
        cases=count,
        candidate=own.mean,
        candidate_ci95=own.ci95,
        current=theirs.mean,
        current_ci95=theirs.ci95,
        difference=float(difference.mean()),
        lower=lower_bound(difference, seed=seed),
    )


def record(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to the record; nothing in it is ever changed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / RECORD).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(dict(entry), ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
