"""``medai models``: add, list, show, remove models, and go back to an earlier version.

Next: models/foreign/adding.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medai.models.confined import sandbox
from medai.models.errors import ModelUnavailable
from medai.models.format.bundle import Description, read_metadata
from medai.models.format.versions import Installed, history, previous, remove, restore
from medai.models.registry import SHIPPED, Registry, ships
from medai.router.errors import SettingsError, failed
from medai.router.settings import load as configuration
from medai.router.settings.tables import Settings
from medai.router.words import clock

EXAMPLE = """\
{
  "version": "1.0.0",
  "description": "Both lungs as one structure in a CT of the chest.",
  "intended_use": "Research. Not for clinical use.",
  "medai": {
    "title": "Lungs in CT",
    "input": {"modalities": ["CT"], "unit": "HU", "min_extent_mm": [200, 150, 30], "max_spacing_mm": 10},
    "feed": {
      "axes": "LPS",
      "spacing_mm": [1.5, 1.5, 3.0],
      "intensity": {"kind": "window", "low": -1000, "high": 400, "to": [0, 1]}
    },
    "inferer": {"dims": 3, "roi": [64, 128, 128], "overlap": 0.5, "activation": "softmax"},
    "cleaning": {"components": 2, "fill_holes": true},
    "segments": [
      {
        "number": 1,
        "name": "Lungs",
        "category": ["91723000", "SCT", "Anatomical Structure"],
        "type": ["39607008", "SCT", "Lung"],
        "modifier": ["51440002", "SCT", "Bilateral"],
        "plausible": {"ml": [1500, 9000], "refuse_below_ml": 50}
      }
    ],
    "weights": {"origin": "who trained it, where it is from", "licence": "MIT"}
  }
}"""
"""A whole metadata.json. docs/models.md explains each line."""
ABOUT_EXAMPLE = """
This is metadata.json for a graph (model.ts or model.onnx) in the same folder; then: medai models add FOLDER
  weights alone       add to medai: "network_def": {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, ...}
  nnU-Net v2 results  leave feed, inferer and cleaning out (plans.json says them)
  a MONAI bundle      the same; --codes FILE gives the medai section without changing the bundle
docs/models.md explains every key."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 good, 1 refused or missing, 2 wrong usage or configuration."""
    options = make_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except SettingsError as error:
        return failed(options, str(error), 2)
    except ModelUnavailable as error:
        if options.json and options.run is not cmd_add:
            _print({"ok": False, "reason": str(error)})
        return failed(options, str(error), 1)


def make_parser() -> argparse.ArgumentParser:
    """All five commands."""
    parser = argparse.ArgumentParser(prog="medai models", description="Models: those that ship, and your own.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = _command(
        commands,
        "add",
        cmd_add,
        "check a model of your own and make it one that a route can name",
        "examples:\n  medai models add --example > FOLDER/metadata.json\n  medai models add FOLDER --name my_lungs\n"
        "  medai models add spleen_ct_segmentation/ --codes spleen.json",
    )
    text = "MONAI bundle, TorchScript, ONNX or weights with metadata.json, or nnU-Net v2 results folder"
    add.add_argument("path", type=Path, nargs="?", help=text)
    add.add_argument("--name", help="what routes call it (default: from the path)")
    add.add_argument("--to", type=Path, metavar="FOLDER", help="folder of models (default: the configured one)")
    add.add_argument("--codes", type=Path, metavar="FILE", help="JSON with the medai section, for a folder without one")
    add.add_argument("--replace", action="store_true", help="if the name is taken; the previous version is kept")
    add.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="longest dry run (default 600)")
    add.add_argument("--example", action="store_true", help="print a complete metadata.json and stop")
    text, example = "all models, and whether they can run here", "example: medai models list --json"
    _command(commands, "list", cmd_list, text, example)
    text, example = "what a model reads, draws and is made of", "example: medai models show mr_hippocampus"
    show = _command(commands, "show", cmd_show, text, example)
    show.add_argument("name")
    text, example = "take an added model out of use; 'rollback' brings it back", "example: medai models remove my_lungs"
    gone = _command(commands, "remove", cmd_remove, text, example)
    gone.add_argument("name")
    text, example = "use an earlier version of an added model again", "example: medai models rollback my_lungs"
    back = _command(commands, "rollback", cmd_rollback, text, example)
    back.add_argument("name")
    back.add_argument("--version", help="which version (default: the previous one)")
    return parser


def _command(commands: Any, name: str, run: Any, text: str, examples: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--dir", type=Path, help="directory of a system made by 'medai up' (default: .medai/site)")
    parser.add_argument("--config", help="medai.toml (default: that of --dir, ./medai.toml, /etc/medai/medai.toml)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def load_settings(options: argparse.Namespace) -> Settings:
    """The settings that a command means; the built-in ones where there is no system yet."""
    site = Path(options.dir or os.environ.get("MEDAI_DIR") or ".medai/site")
    if options.config or (configuration.find_file(None) is not None and not options.dir):
        return configuration.load(options.config)
    if (site / "medai.toml").is_file():
        return configuration.load(str(site / "medai.toml"))
    if options.dir:
        raise SettingsError(f"{site / 'medai.toml'} does not exist: start a system there with 'medai up --dir {site}'")
    return configuration.load(None)


def _registry(settings: Settings) -> Registry:
    return Registry((*settings.models.places, SHIPPED), settings.models.weights)


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


# -- commands


def cmd_add(options: argparse.Namespace) -> int:
    """Step by step."""
    if options.example:
        print(EXAMPLE)
        print(ABOUT_EXAMPLE, file=sys.stderr)
        return 0
    if options.path is None:
        return failed(options, "give the path of a model, or --example", 2)
    from medai.models.foreign.adding import Step, add  # imports torch

    folder = options.to or load_settings(options).models.adds_to
    steps: list[Step] = []

    def report(step: Step) -> None:
        steps.append(step)
        print(f"ok       {step.what}: {step.text}", file=sys.stderr, flush=True)

    try:
        done = add(
            options.path,
            folder,
            name=options.name,
            codes=options.codes,
            replace=options.replace,
            limit_s=options.limit,
            report=report,
        )
    except ModelUnavailable as error:
        if options.json:
            _print({"ok": False, "reason": str(error), "steps": [vars(step) for step in steps]})
        print(f"REFUSED  {error}", file=sys.stderr)
        return 1
    if options.json:
        _print({"ok": True, **_installed(done), "steps": [vars(step) for step in steps]})
    else:
        print(_next(done, known=options.to is None))
    return 0


def _next(done: Installed, *, known: bool) -> str:
    """What to do now."""
    lines = [
        f"{done.name} {done.version} can be named by a route:",
        "",
        "    [[routes]]",
        f'    model = "{done.name}"',
        "",
    ]
    if not known:
        lines.append(f"{done.path.parent} must be among [models] folders of medai.toml.")
    lines.append(f"Try it: medai process STUDY/ --model {done.name} --out RESULTS/")
    lines.append("Workers look for models when they start: medai down, then medai up.")
    return "\n".join(lines)


def _installed(item: Installed) -> dict[str, Any]:
    return {
        "name": item.name,
        "version": item.version,
        "folder": str(item.path),
        "current": item.current,
        "changed": item.changed,
    }


def cmd_list(options: argparse.Namespace) -> int:
    """One line a model."""
    registry = _registry(load_settings(options))
    rows = [_row(registry, item) for item in registry.describe()]
    if options.json:
        _print({"models": rows})
        return 0
    for row in rows:
        state = "can run" if row["available"] else "cannot run"
        print(f"{row['name']:<20} {row['version']:<20} {row['origin']:<8} {state:<11} {row['title']}")
        if row["reason"]:
            print(f"    {row['reason']}")
    return 0


def _row(registry: Registry, item: Description) -> dict[str, Any]:
    folder = registry.folder(item.name)
    return {
        "name": item.name,
        "title": item.title,
        "version": item.version,
        "licence": item.licence,
        "available": item.available,
        "reason": item.reason,
        "origin": "ships" if ships(folder) else "added",
        "folder": str(folder),
    }


def cmd_show(options: argparse.Namespace) -> int:
    """Everything that a bundle says."""
    registry = _registry(load_settings(options))
    folder = registry.folder(options.name)
    item = next(one for one in registry.describe() if one.name == options.name)
    metadata, ours = read_metadata(folder)
    earlier = [_installed(one) for one in previous(folder.parent, options.name)]
    content = {
        **_row(registry, item),
        "description": item.description,
        "intended_use": item.intended_use,
        "input": ours.input.model_dump(mode="json"),
        "segments": [segment.model_dump(mode="json", exclude_none=True) for segment in ours.segments],
        "weights": ours.weights.model_dump(mode="json"),
        "authors": metadata.get("authors", ""),
        "held_by": "" if ships(folder) else sandbox.available(),
        "earlier_versions": earlier,
        "history": history(folder.parent, options.name),
    }
    if options.json:
        _print(content)
    else:
        print(_page(content))
    return 0


def _page(content: dict[str, Any]) -> str:
    reads, weights = content["input"], content["weights"]
    extent = " x ".join(f"{side:g}" for side in reads["min_extent_mm"])
    lines = [
        f"{content['name']} {content['version']}: {content['title']}",
        f"  {content['description']}",
        f"  state         {'can run here' if content['available'] else content['reason']}",
        f"  folder        {content['folder']}",
        f"  reads         {', '.join(sorted(reads['modalities']))} in {reads['unit']}, at least {extent} mm",
        f"  intended use  {content['intended_use']}",
        f"  licence       {content['licence'] or 'not recorded'}",
        f"  origin        {weights['origin'] or 'not recorded'}",
        f"  runs in       {_where(content['held_by'])}",
    ]
    lines += [f"  weights       {name} SHA-256 {digest}" for name, digest in weights["files"].items()]
    for segment in content["segments"]:
        code = " ".join((*segment["type"][:2], *segment.get("modifier", ())[:2]))
        lines.append(f"  segment {segment['number']}     {segment['name']} ({code})")
    for entry in content["history"]:
        lines.append(f"  {entry['action']:<13} {clock(entry['at'])} {entry['version'] or entry['replaced']}")
    if content["earlier_versions"]:
        lines.append("  earlier       " + ", ".join(one["version"] for one in content["earlier_versions"]))
    return "\n".join(lines)


def _where(held_by: str) -> str:
    return f"a process of its own, held by {held_by}" if held_by else "the worker's process"


def _place_of(options: argparse.Namespace) -> Path:
    """The folder that holds, or held, an added model. Raises ModelUnavailable for one that ships."""
    settings = load_settings(options)
    for place in settings.models.places:
        if (place / options.name).is_dir() or previous(place, options.name):
            return place
    if (SHIPPED / options.name).is_dir():
        raise ModelUnavailable(f"{options.name} ships with Med-AI: only models that were added can be changed here")
    registry = _registry(settings)
    return registry.folder(options.name).parent  # raises, naming the nearest


def cmd_remove(options: argparse.Namespace) -> int:
    """Into ``.versions``."""
    gone = remove(_place_of(options), options.name)
    if options.json:
        _print({"ok": True, **_installed(gone)})
    else:
        print(f"{gone.name} {gone.version} is no longer used; medai models rollback {gone.name} brings it back")
    return 0


def cmd_rollback(options: argparse.Namespace) -> int:
    """Out of ``.versions``."""
    place = _place_of(options)
    earlier = previous(place, options.name)
    if not options.version and not earlier:
        raise ModelUnavailable(f"{options.name} has no earlier version")
    back = restore(place, options.name, options.version or earlier[0].version)
    if options.json:
        _print({"ok": True, **_installed(back)})
    else:
        print(f"{back.name} is at {back.version} again; workers look for models when they start")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
