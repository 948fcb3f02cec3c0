"""./medai, the script: with a Python that only pretends to install, so that each way through it takes a moment."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

FAKE_PYTHON = """\
#!/bin/sh
# Pretends to be Python: makes "environments" and "installs" by writing a medai that repeats its arguments.
here=$(dirname -- "$0")
case "$*" in
*locked.py*) shift; echo "$*" >>"$PRETEND/extras" ;;
*'-m venv'*)
    for place in "$@"; do :; done
    rm -rf -- "$place"; mkdir -p -- "$place/bin"; cp -- "$0" "$place/bin/python" ;;
*'-m pip install'*)
    echo "$*" >>"$PRETEND/pip-calls"
    [ ! -e "$PRETEND/fail" ] || { echo 'no such package: nonesuch'; exit 1; }
    [ ! -e "$PRETEND/slow" ] || sleep 30
    sleep 0.3
    printf '#!/bin/sh\\nfor a in "$@"; do echo "got:$a"; done\\n' >"$here/medai"; chmod +x "$here/medai"
    printf '#!/bin/sh\\necho "$*" >>"$PRETEND/receiver-calls"\\n' >"$here/npm"; chmod +x "$here/npm" ;;
*pytest*) shift 2; echo "pytest in $(pwd) with $*" ;;
*'-m chaos'*) shift 2; echo "chaos with $* and $PYTHONPATH" ;;
*--version*) echo Python 3.11.99 ;;
esac
"""


class Checkout:
    """A pretended checkout in a folder whose name holds a space."""

    def __init__(self, place: Path, script: Path) -> None:
        self.root = place / "a checkout"
        self.root.mkdir()
        self.viewer = place / "viewer.tgz"
        with tarfile.open(self.viewer, "w:gz") as packed:
            for name in ("LICENSE", "dist/index.html", "dist/app.js.map", "dist/ort/big.wasm"):
                packed.addfile(tarfile.TarInfo(f"package/{name}"))
        sha512 = hashlib.sha512(self.viewer.read_bytes()).hexdigest()
        text = re.sub(r"(?m)^OHIF_SHA512=.*", f"OHIF_SHA512={sha512}", script.read_text())
        (self.root / "medai").write_text(text)
        (self.root / "medai").chmod(0o755)
        for name in ("pyproject.toml", "constraints.txt", "requirements.lock"):
            (self.root / name).write_text("one\n")
        self.pretend = place
        self.python = place / "fake-python"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)

    def run(self, *arguments: str, script: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [script or self.root / "medai", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment(**environment))

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "MEDAI_PYTHON": str(self.python), "PRETEND": str(self.pretend)} | more

    @property
    def calls(self) -> list[str]:
        """Each call of pip."""
        calls = self.pretend / "pip-calls"
        return calls.read_text().splitlines() if calls.exists() else []

    @property
    def installs(self) -> list[str]:
        return [line for line in self.calls if " -e " in line]

    @property
    def extras(self) -> str:
        """What was last asked of the lock."""
        return (self.pretend / "extras").read_text().splitlines()[-1]


@pytest.fixture
def checkout(tmp_path: Path, project_root: Path) -> Checkout:
    return Checkout(tmp_path, project_root / "medai")


def test_alone_it_explains_itself_and_sets_nothing_up(checkout: Checkout) -> None:
    done = checkout.run()
    assert done.returncode == 0
    assert "./medai demo" in done.stdout
    assert not (checkout.root / ".venv").exists()


def test_the_first_run_sets_up_and_passes_the_arguments_on_as_they_are(checkout: Checkout) -> None:
    done = checkout.run("ris", "--data", "a folder", "")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["got:ris", "got:--data", "got:a folder", "got:"]
    assert "[2/3]" in done.stderr
    assert "[3/3]" in done.stderr
    assert checkout.extras == "build worker ris console trials onebox postgresql tracing"


def test_every_package_is_installed_by_its_sum_and_nothing_that_it_asks_for_besides(checkout: Checkout) -> None:
    checkout.run("ris")
    locked, torch, own = checkout.calls
    assert f"--no-deps --require-hashes -r {checkout.root}/.medai/requirements.txt" in locked
    assert torch.endswith("/constraints.txt torch"), "whichever build pip's settings give"
    assert own.endswith(f"--no-deps --no-build-isolation -e {checkout.root}")


def test_pytorch_too_where_that_is_wanted(checkout: Checkout) -> None:
    checkout.run("ris", MEDAI_TORCH_LOCKED="1")
    assert checkout.extras.endswith(" tracing torch")
    assert len(checkout.calls) == 2


def test_the_second_run_installs_nothing_and_says_nothing(checkout: Checkout) -> None:
    checkout.run("ris")
    done = checkout.run("ris")
    assert done.stderr == ""
    assert len(checkout.installs) == 1


def test_it_works_through_a_symbolic_link_from_another_folder(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout.root / "medai")
    assert checkout.run("ris", script=link).stdout == "got:ris\n"
    assert (checkout.root / ".venv").is_dir()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "requirements.lock"])
def test_a_changed_requirement_installs_again(checkout: Checkout, name: str) -> None:
    checkout.run("ris")
    (checkout.root / name).write_text("two\n")
    checkout.run("ris")
    assert len(checkout.installs) == 2


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.run("ris")
    checkout.root = checkout.root.rename(checkout.root.with_name("elsewhere"))
    done = checkout.run("ris")
    assert done.stdout == "got:ris\n"
    assert "[2/3]" in done.stderr


def test_a_failed_installation_shows_why_and_the_next_run_takes_it_up(checkout: Checkout) -> None:
    (checkout.pretend / "fail").touch()
    done = checkout.run("ris")
    assert done.returncode == 1
    assert "no such package: nonesuch" in done.stderr
    assert "setup.log" in done.stderr
    (checkout.pretend / "fail").unlink()
    assert checkout.run("ris").stdout == "got:ris\n"


def test_an_interrupted_set_up_is_taken_up_by_the_next_run(checkout: Checkout) -> None:
    (checkout.pretend / "slow").touch()
    running = subprocess.Popen(
        [checkout.root / "medai", "ris"], env=checkout.environment(), stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 20
    while not checkout.calls and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGTERM)
    _, told = running.communicate(timeout=20)
    assert b"interrupted" in told
    assert not (checkout.root / ".venv" / "medai-stamp").exists()
    (checkout.pretend / "slow").unlink()
    assert checkout.run("ris").stdout == "got:ris\n"


def test_a_half_made_environment_is_made_again(checkout: Checkout) -> None:
    (checkout.root / ".venv" / "bin").mkdir(parents=True)
    done = checkout.run("ris")
    assert done.stdout == "got:ris\n"
    assert "replacing an unfinished" in done.stderr


def test_two_first_runs_at_once_install_once(checkout: Checkout) -> None:
    both = [
        subprocess.Popen(
            [checkout.root / "medai", "ris"], env=checkout.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    answers = [running.communicate(timeout=60) for running in both]
    assert [out for out, _ in answers] == [b"got:ris\n", b"got:ris\n"]
    assert len(checkout.installs) == 1


def test_the_tests_get_the_development_tools_and_run_at_the_root(checkout: Checkout) -> None:
    checkout.run("ris")
    done = checkout.run("setup", "--test", PATH=_everything_there(checkout))
    assert done.returncode == 0, done.stderr
    assert checkout.extras.endswith(" postgresql tracing dev training foreign")
    assert checkout.run("test", "-k", "x y", PATH=_everything_there(checkout)).stdout == (
        f"pytest in {checkout.root} with -k x y\n"
    )
    assert len(checkout.installs) == 2
    checkout.run("ris")
    assert len(checkout.installs) == 2


def test_alone_it_plays_the_quick_tests_and_with_all_every_test_once(checkout: Checkout) -> None:
    path = _everything_there(checkout)
    start = f"pytest in {checkout.root} with"
    assert checkout.run("test", PATH=path).stdout == f"{start} -n auto -m not slow and not apart\n"
    every = checkout.run("test", "--all", "--durations=5", PATH=path)
    assert every.stdout.splitlines() == [
        f"{start} -n auto -m not apart --durations=5",
        f"{start} -n 2 -m apart --durations=5",
    ]


@pytest.mark.parametrize("failing", ["not apart", "apart"])
def test_all_tests_fail_where_one_half_of_them_fails(checkout: Checkout, failing: str) -> None:
    checkout.python.write_text(FAKE_PYTHON.replace("*pytest*) ", f'*"-m {failing}") exit 3 ;;\n*pytest*) '))
    assert checkout.run("test", "--all", PATH=_everything_there(checkout)).returncode == 3


def test_the_fault_harness_gets_the_development_tools_and_finds_the_tests(checkout: Checkout) -> None:
    done = checkout.run("chaos", "--only", "ris-ae", PATH=_everything_there(checkout))
    assert done.stdout == f"chaos with --only ris-ae and {checkout.root}/.lint:{checkout.root}/tests\n"
    assert " dev " in checkout.extras


def _everything_there(checkout: Checkout) -> str:
    """A PATH on which every program is found that the tests need, so that nothing gets installed here."""
    tools = checkout.pretend / "tools"
    tools.mkdir(exist_ok=True)
    for name in (
        "Orthanc",
        "redis-server",
        "dsrdump",
        "initdb",
        "promtool",
        "java",
        "docker-compose",
        "chromium",
        "nginx",
    ):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    _npm(checkout, tools)
    for file in (
        "/usr/share/mricron/templates/ch2.nii.gz",
        "/usr/share/java/pixelmed.jar",
        "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    ):
        if not Path(file).exists():
            pytest.skip(f"{file} is not here, and this test must not install it")
    return f"{tools}:{os.environ['PATH']}"


def _npm(checkout: Checkout, tools: Path) -> Path:
    """An npm that hands out the pretended viewer, and counts."""
    tools.mkdir(exist_ok=True)
    npm = tools / "npm"
    npm.write_text('#!/bin/sh\necho "$*" >>"$PRETEND/npm-calls"\ncp "$PRETEND/viewer.tgz" ohif-app-1.tgz\n')
    npm.chmod(0o755)
    return tools


def test_the_viewer_is_fetched_once_checked_and_left_without_what_nobody_needs(checkout: Checkout) -> None:
    for _ in range(2):
        done = checkout.run("setup", "--test", PATH=_everything_there(checkout))
        assert done.returncode == 0, done.stderr
    place = checkout.root / ".venv" / "share" / "ohif"
    assert sorted(path.name for path in place.iterdir()) == ["LICENSE", "index.html", "medai-version"]
    assert len((checkout.pretend / "npm-calls").read_text().splitlines()) == 1
    (fetched,) = (checkout.pretend / "receiver-calls").read_text().splitlines()
    assert "@medplum/hl7@" in fetched, "the receiver of others, once too"


def test_a_viewer_with_another_checksum_is_not_taken_and_up_goes_on_without(checkout: Checkout) -> None:
    path = _everything_there(checkout)
    checkout.viewer.write_bytes(b"something else")
    for _ in range(2):
        done = checkout.run("up", PATH=path)
        assert done.stdout == "got:up\n"
    assert not (checkout.root / ".venv" / "share" / "ohif").exists()
    assert len((checkout.pretend / "npm-calls").read_text().splitlines()) == 1, "up tries once"
    assert checkout.run("setup", "--test", PATH=path).returncode == 1, "the tests need it"


def test_a_python_that_is_not_there_is_said_with_what_to_do(checkout: Checkout) -> None:
    done = checkout.run("ris", MEDAI_PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr


def _without_orthanc(checkout: Checkout, *, user: int) -> str:
    """Make the script find no Orthanc, run as ``user``, and reach only pretended sudo and apt-get; a PATH."""
    script = checkout.root / "medai"
    policy = checkout.pretend / "policy-rc.d"
    text = script.read_text()
    for old, new in {
        "orthanc) have Orthanc ;;": f'orthanc) [ -e "{checkout.pretend}/Orthanc" ] ;;',
        "orthanc-dicomweb) [": "orthanc-dicomweb) true || [",
        "redis-server) have redis-server ;;": "redis-server) true ;;",
        "policy=/usr/sbin/policy-rc.d": f"policy={policy}",
        "[ -d /run/systemd/system ]": "false",
    }.items():
        assert old in text
        text = text.replace(old, new)
    script.write_text(text)
    tools = checkout.pretend / "tools"
    tools.mkdir()
    install = f'echo "$* policy:$(cat {policy} | tail -n 1)" >>"$PRETEND/apt-calls"; touch "$PRETEND/Orthanc"'
    for name, body in {"id": f"echo {user}", "sudo": "exit 1", "apt-get": install}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


def test_packages_that_are_missing_are_installed_by_root_without_starting_their_services(checkout: Checkout) -> None:
    done = checkout.run("up", PATH=_without_orthanc(checkout, user=0))
    assert done.stdout == "got:up\n", done.stderr
    calls = (checkout.pretend / "apt-calls").read_text().splitlines()
    assert "install --yes --no-install-recommends orthanc policy:exit 101" in calls[-1]
    assert not (checkout.pretend / "policy-rc.d").exists()


def test_a_policy_of_the_machine_is_left_as_it_was(checkout: Checkout) -> None:
    (checkout.pretend / "policy-rc.d").write_text("exit 7\n")
    checkout.run("up", PATH=_without_orthanc(checkout, user=0))
    assert (checkout.pretend / "policy-rc.d").read_text() == "exit 7\n"


def test_without_root_it_says_what_to_install(checkout: Checkout) -> None:
    done = checkout.run("up", PATH=_without_orthanc(checkout, user=1000))
    assert done.returncode == 1
    assert "apt-get install --no-install-recommends orthanc" in done.stderr
    assert "docker compose up" in done.stderr


def test_a_command_that_needs_no_orthanc_does_not_ask_for_it(checkout: Checkout) -> None:
    assert checkout.run("ris", PATH=_without_orthanc(checkout, user=1000)).stdout == "got:ris\n"


def test_the_script_is_plain_posix_shell(project_root: Path) -> None:
    shell = shutil.which("dash") or "sh"
    assert subprocess.run([shell, "-n", project_root / "medai"], check=False).returncode == 0
