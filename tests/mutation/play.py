"""One mutant after the other: a fork of a process that has imported everything else plays the module's own tests.

That process has not imported the module itself, nor what imports it: the fork does, the module from the changed tree.
So nothing is written, and a mutant costs what its tests cost, not what importing torch costs. Next: cli.py.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from mutation.targets import ROOT, Tests

PLUGINS = ("_hypothesis_pytestplugin", "pytest_timeout", "xdist.plugin", "no:cacheprovider", "no:unraisableexception")
OPTIONS = (
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "-x",
    "-q",
    "--no-header",
    "--tb=no",
    "--hypothesis-profile=mutation",
    "--rootdir",
    str(ROOT),
)
KILLED_AT_LEAST_AFTER_S = 20.0
"""A mutant that hangs counts as noticed after this, or five times what the tests take without a change."""


class Forbidden(importlib.abc.MetaPathFinder):
    """Refuses the import of one module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == self._name:
            raise ImportError(f"{fullname} is the module that changes")
        return None


class Changed(importlib.abc.MetaPathFinder):
    """Imports one module from a syntax tree."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self._name = name
        self._path = path
        self._tree = tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        loader = _Loader(fullname, str(self._path), self._tree)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, tree: ast.Module) -> None:
        super().__init__(fullname, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self.path, "exec", dont_inherit=True)


class Player:
    """Plays the tests of one module against its mutants."""

    def __init__(self, module: str, tests: Tests, temporary: Path) -> None:
        self._path = ROOT / module
        self._name = "medai." + module.removesuffix(".py").replace("/", ".")
        ours = [f"--confcutdir={tests.fixtures_from}", f"--basetemp={temporary / 'pytest'}"]
        plugins = [word for name in PLUGINS for word in ("-p", name)]
        self._arguments = [*OPTIONS, *plugins, *ours, "-o", "addopts=--import-mode=importlib", *tests.files]
        self._output = temporary / "output.txt"
        self._limit_s = 600.0

    def baseline(self) -> float:
        """Play the tests unchanged, twice: to learn what they import, and then how long they take. Seconds."""
        modules = self._learn()
        guard = Forbidden(self._name)
        sys.meta_path.insert(0, guard)
        for name in modules:
            with contextlib.suppress(Exception):  # it needs the module, or can't be imported by itself
                importlib.import_module(name)
        sys.meta_path.remove(guard)
        gc.freeze()
        begun = time.monotonic()
        if self.notices(None):
            raise RuntimeError(f"{self._name}: a test fails without any change\n{self._output.read_text()}")
        took_s = time.monotonic() - begun
        if not self.notices(ast.parse("raise ImportError")):
            raise RuntimeError(f"{self._name} was imported too early, or its tests do not import it")
        self._limit_s = max(KILLED_AT_LEAST_AFTER_S, 5 * took_s)
        return took_s

    def notices(self, tree: ast.Module | None) -> bool:
        """Whether a test fails, or nothing ends, with this tree in the module's place."""

        def play() -> int:
            if tree is not None:
                sys.meta_path.insert(0, Changed(self._name, self._path, tree))
            return self._pytest()

        return _forked(play, self._limit_s) != 0

    def _learn(self) -> list[str]:
        """The modules that the tests import, in order; no test."""
        read, write = os.pipe()

        def play() -> int:
            rc = self._pytest()
            names = [name for name in sys.modules if not _is_test(name)]
            with os.fdopen(write, "w") as pipe:
                json.dump(names, pipe)
            return rc

        reader = _Reader(read)
        if _forked(play, self._limit_s, meanwhile=reader.take) != 0:
            raise RuntimeError(f"{self._name}: a test fails without any change\n{self._output.read_text()}")
        os.close(write)
        names: list[str] = json.loads(reader.all())
        return names

    def _pytest(self) -> int:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # some take a second to import
        quiet = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        hypothesis.settings.register_profile(
            "mutation",
            database=None,
            derandomize=True,  # the same examples for each mutant
            deadline=None,
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),  # which example fails is of no interest
        )
        os.chdir(ROOT)
        return int(pytest.main(self._arguments))


class _Reader:
    """What a fork writes, taken while it lives so that it never waits for us."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parts: list[bytes] = []
        os.set_blocking(descriptor, False)

    def take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._descriptor, 65536):
                self._parts.append(part)

    def all(self) -> str:
        self.take()
        os.close(self._descriptor)
        return b"".join(self._parts).decode()


def _is_test(name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    return file is not None and Path(file).is_relative_to(ROOT / "tests")


def _forked(play: Callable[[], int], limit_s: float, meanwhile: Callable[[], None] = lambda: None) -> int:
    """The exit status of ``play`` in a process of its own; -1 where it did not end in time."""
    pid = os.fork()
    if pid == 0:
        rc = 70
        try:
            rc = play()
        except BaseException:  # noqa: BLE001  # the fork ends here whatever it was
            traceback.print_exc()
        finally:
            os._exit(rc)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        meanwhile()
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1
