"""Each command that a page shows is run here, or by a test that is named here, or is listed with what it takes that tests lack.

A new command in a page without its line here fails. All ``medai`` and ``medai-train`` commands must parse, run or not.
Next: tests/command_lines.py (how commands are found).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import judging_cases
import pytest
from command_lines import every_shown, parse
from servers import answers, free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
SHOWN = every_shown(ROOT)
TEXTS = sorted({each.text for each in SHOWN})

PEOPLE = (
    "medai account add ana --role operator",
    "medai account list",
    "medai account role ana administrator",
    "medai account password ana",
    "medai account disable ana",
    "medai account enable ana",
    "medai audit verify",
    "medai audit export --since 30d --format csv --out audit.csv",
    "medai audit export --format dicom --out audit.xml",
    "medai survey summary",
    "medai survey export usefulness --out u.csv",
    "medai edits list",
)
CONSOLE = "medai console --config medai.toml"
LOGIN = (
    "curl -s -X POST localhost:8088/api/login -H 'Content-Type: application/json' "
    '-d \'{"name": "ana", "password": "..."}\''
)
WITH_TOKEN = {
    'curl -s localhost:8088/api/surveys/sus.csv -H "Authorization: Bearer $TOKEN"': "answered_on",
    'curl -s localhost:8088/api/studies?state=failed -H "Authorization: Bearer $TOKEN"': '"studies"',
    'curl -s -X POST localhost:8088/api/tokens -H "Authorization: Bearer $TOKEN" '
    '-H \'Content-Type: application/json\' -d \'{"label": "dashboard", "role": "reader", "days": 90}\'': '"token"',
}
"""Command -> what its answer holds."""
RIS = ("medai ris", "medai ris --data /var/lib/ris --router-host router --router-port 2575")
ORDER = (
    'curl -H \'Content-Type: application/json\' http://127.0.0.1:8090/orders -d \'{"patient_id": "4711", '
    '"patient_name": "Doe^Jane", "accession": "A1", "modality": "CT", "priority": "STAT"}\''
)
QUALITY = ("medai-train qa DATA --out qa/", "medai-train qa DATA --json")
TRIALS = (
    "medai trial list",
    "medai trial simulate monday-morning --workers 2 --days 20",
    "medai trial plan monday-morning --objective p95=300s --service shipped --gpu",
    "./medai trial plan monday-morning --objective p95=300s --service shipped",
    "medai trial plan monday-morning --objective p95=300s --service shipped --hospitals 30 --studies-per-year 1e6",
)
CODES = "cat > spleen.json <<'END'"
FAULTS = "./medai chaos --list"
HERE = {*PEOPLE, CONSOLE, LOGIN, *WITH_TOKEN, *RIS, ORDER, *QUALITY, *TRIALS, CODES, FAULTS}

README = "test_every_command_of_the_readme_succeeds"
SET_UP = "test_the_tests_get_the_development_tools_and_run_at_the_root"
QUICK = "test_alone_it_plays_the_quick_tests_and_with_all_every_test_once"
CLASSIFIER = "test_a_small_classifier_is_trained_exported_and_judged"
ADDED = "test_a_model_is_added_listed_shown_removed_and_brought_back"
BENCHMARK = "test_a_benchmark_runs_in_its_small_form"
MAGE = "test_mage_runs_the_pipeline_to_the_same_arrays"
BY_ANOTHER_TEST = {
    "./medai demo": README,
    "./medai up": README,
    "./medai check": README,
    "./medai status": README,
    "./medai jobs": README,
    "./medai turnaround --since 24h --by route": README,
    "./medai down": README,
    "./medai process /usr/share/mricron/templates/ch2.nii.gz --out results": README,
    "python docs/architecture/draw.py": "test_each_picture_is_drawn_from_the_imports",
    "./medai setup --test": SET_UP,
    "./medai test": QUICK,
    "./medai test --all": QUICK,
    "./medai test tests/unit -k geometry": SET_UP,
    "./medai chaos --each --lanes 4 --studies 3": "test_each_fault_once_loses_doubles_and_strands_nothing",
    "medai held": "test_a_held_order_is_listed_until_a_person_decides",
    "medai deidentify STUDY/ CLEAN/ --key-file project.key": "test_a_folder_leaves_without_its_patient",
    "medai erase --patient 4711 --issuer MAIN --dry-run": "test_the_archive_keeps_its_studies_unless_it_is_asked_and_they_are_not_read_again",
    "medai erase --patient - --issuer MAIN --studies-too": "test_the_archives_studies_go_too_where_it_is_asked_also_those_that_were_never_read",
    "medai backup /mnt/backups --passphrase-file /etc/medai/passphrase": "test_a_site_comes_back_elsewhere_as_it_was",
    "medai backup --check /mnt/backups/medai-20260101T020000Z.backup --passphrase-file /etc/medai/passphrase": "test_a_site_comes_back_elsewhere_as_it_was",
    "medai restore /mnt/backups/medai-20260101T020000Z.backup --dir /srv/medai2 --passphrase-file /etc/medai/passphrase": "test_a_site_comes_back_elsewhere_as_it_was",
    "medai restore medai.backup --config /etc/medai/medai.toml": "test_a_configuration_without_a_site_of_ours_comes_back_where_it_says",
    "medai dead": "test_dead_lists_and_tells_one_with_its_history",
    "medai dead 1f0c2a41": "test_dead_lists_and_tells_one_with_its_history",
    "medai retry 1f0c2a41": "test_retry_of_one",
    "medai drop 1f0c2a41/ris --reason entered-by-hand": "test_drop_keeps_the_reason_and_works_once",
    "medai edits export --out edits/ --model M": "test_an_export_of_edits_needs_a_folder_and_is_written_down",
    "medai-train edits edits/ --out data/": "test_what_a_reader_corrected_becomes_a_data_set_for_training",
    "promtool test rules deploy/prometheus/tests/rules_test.yml": "test_promtool_finds_no_fault",
    "medai models add PATH --name my_lungs": ADDED,
    "medai models add foreign_lungs/": ADDED,
    "medai models add spleen_ct_segmentation/ --codes spleen.json": "test_a_monai_bundle_takes_its_codes_from_a_file",
    "medai process STUDY/ --model my_lungs --out RESULTS/": "test_a_monai_bundle_draws_what_monai_draws",
    ".venv/bin/python benchmarks/latency.py --rounds 3": BENCHMARK,
    ".venv/bin/python benchmarks/console.py": BENCHMARK,
    ".venv/bin/python benchmarks/journey.py --studies 5": BENCHMARK,
    ".venv/bin/python benchmarks/models.py SERIES/ --model ct_lungs": BENCHMARK,
    "export MEDAI_ORTHANC__USERNAME=reader MEDAI_ORTHANC__PASSWORD=…": "test_a_login_is_asked_for_and_never_shown",
    "medai-train qa http://pacs:8042 --out qa/": "test_what_a_person_drew_comes_out_and_what_an_algorithm_drew_does_not",
    "medai-train etl setup": MAGE,
    "medai-train etl run --data DATA --out prepared/ --config training/configs/mr_hippocampus.toml": MAGE,
    "medai-train fit prepared/config.toml --data prepared/ --out runs/prepared": "test_a_training_learns_and_leaves_a_whole_run_folder",
    "medai-train fit training/configs/mr_hippocampus.toml --data DATA --out runs/mr_hippocampus": "test_a_minute_on_sixteen_hippocampi_learns_and_survives_a_kill",
    "medai-train export runs/mr_hippocampus --bundle bundles/mr_hippocampus --describe training/configs/mr_hippocampus.description.toml": CLASSIFIER,
    "medai-train evaluate bundles/mr_hippocampus --data DATA --split test --card --json figures.json": "test_the_card_gets_the_figures_between_its_markers_once",
    "medai-train evaluate BUNDLE --data DATA": "test_without_a_side_the_test_cases_judge_where_the_data_set_is_that_of_the_split",
    "medai-train evaluate BUNDLE --data DATA --out judged/ --worst 5": "test_tables_and_the_worst_cases_are_written",
    "medai-train evaluate RUN --data DATA --split validation": "test_a_run_is_judged_as_its_bundle_would_be",
    "medai-train evaluate BUNDLE --data DATA --strict": "test_strict_counts_what_the_model_refuses_with_its_reason",
    "medai-train evaluate BUNDLE --data DATA --folds runs/fold-* --card": "test_cross_validation_pools_what_each_run_draws_on_its_own_cases",
    "medai-train evaluate BUNDLE --data OTHER --class lungs=1,2:1": "test_classes_can_be_given_for_a_model_that_names_none",
    "medai-train compare runs/unet runs/densenet runs/deeplabv3plus --data DATA --out comparison/ --markdown docs/comparison.md": "test_the_page_says_how_it_was_made_and_links_pictures_that_are_there",
    "medai-train reference models/bundles/NAME --data DATA": "test_a_reference_says_what_the_model_draws_on_its_training_cases",
    "medai-train promote bundles/mr_hippocampus --data DATA --into /srv/models --first": "test_the_first_model_of_a_name_must_be_called_that_and_is_recorded_with_its_figures",
    'medai-train promote bundles/mr_hippocampus --data DATA --into /srv/models --by "N. Name"': "test_a_candidate_that_is_not_inferior_serves_and_the_former_is_kept",
    "medai-train rollback mr_hippocampus --into /srv/models --list": "test_rollback_returns_to_what_served_before_and_is_recorded",
    'medai-train rollback mr_hippocampus --into /srv/models --reason "draws the amygdala on scanner B"': "test_rollback_returns_to_what_served_before_and_is_recorded",
    "medai trial run trauma-burst --arms with-ai,without-ai --out trauma": "test_both_arms_have_the_same_patients",
    "medai scan --archive localhost:4242 --modality CT --source ~/dicom/chest --habit localizer --habit late-slices": "test_studies_of_people_who_do_not_exist_reach_the_archive",
    "medai scan --archive localhost:4242 --ris localhost:11112 --count 3": "test_the_worklist_is_worked_off_and_each_step_reported",
    ".venv/bin/python tests/mutation models/geometry.py --json SURVIVORS": "test_a_change_is_noticed_and_one_without_effect_is_named",
    "python tests/peers/check_messages.py monday/messages": "test_foreign_receivers_take_every_message_of_a_trial",
}
"""With data, names and numbers of that test's own."""
NOT_RUN = {
    "./medai test --images": "takes long, root and podman; CONTRIBUTING.md says when to run it",
    "./medai test --images --keep": "as the line before",
    "./medai test --images --forget": "as the line before",
    "git archive e7e0dc0 | tar -x -C BEFORE": "draws how the house was; a copy of the repository may lack that revision",
    'PYTHONPATH=BEFORE python docs/architecture/draw.py --package router --title "router/ before it had rooms" '
    "--out docs/architecture/before.svg": "as the line before",
    ".ci/run": "plays this test",
    "./medai chaos --rounds 200 --seed 1 --lanes 2": "takes an hour; each fault once is played by tests/chaos",
    "./medai chaos --rounds 200 --seed 1 --lanes 3 --json chaos.json": "takes an hour; each fault once is played by tests/chaos",
    "./medai chaos --only redis-flushed --rounds 5": "takes minutes; each fault once is played by tests/chaos",
    "./medai chaos --rounds 200 --seed 1 --lanes 2 --round 37 --keep": "takes a minute; each fault once is played by tests/chaos",
    "./medai demo --keep --dir /tmp/site": "made when pictures of the pages are made anew, by a person who looks at them",
    "PYTHONPATH=tests .venv/bin/python tests/screenshots.py --dir /tmp/site --out docs/images/console": "as the line before",
    "docker compose --profile monitoring up": "needs a container engine and images of others; its files are tried by tests/acceptance/test_prometheus.py",
    "./medai trial run monday-morning --out monday": "takes six minutes; two other scenarios are played by tests/acceptance/test_trials.py",
    "medai trial run monday-morning --accelerate 60 --out monday": "takes six minutes; two other scenarios are played by tests/acceptance/test_trials.py",
    "medai trial run all --out nightly": "takes forty minutes; two scenarios are played by tests/acceptance/test_trials.py",
}
"""What it takes that the tests have not."""


@pytest.mark.parametrize("text", TEXTS)
def test_a_command_that_a_page_shows_is_run_or_has_a_reason_why_not(text: str) -> None:
    places = [text in HERE, text in BY_ANOTHER_TEST, text in NOT_RUN]
    assert sum(places) == 1, "run it here, name the test that runs it, or say what it takes that tests have not"


def test_no_line_here_is_of_a_command_that_no_page_shows() -> None:
    assert HERE | BY_ANOTHER_TEST.keys() | NOT_RUN.keys() <= set(TEXTS)


def test_each_test_that_runs_a_command_exists() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert set(BY_ANOTHER_TEST.values()) - there == set()


@pytest.mark.parametrize("text", [each for each in TEXTS if re.match(r"(\./)?medai(-train)? ", each)])
def test_a_command_parses(text: str) -> None:
    assert parse(text) or text.startswith(("./medai setup", "./medai test", "./medai chaos")), (
        "the script's own commands"
    )


# -- those that are run here


class Shell:
    """A folder with a configuration, in which commands are run as a person types them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console, self.ris = free_port(), free_port()
        (folder / "medai.toml").write_text(
            f'[ledger]\nurl = "sqlite:///{folder}/ledger.sqlite"\n[console]\nport = {self.console}\n', encoding="utf-8"
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MEDAI_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / '.lint'}:{ROOT / 'tests'}",
            "MEDAI_RIS_MLLP_PORT": "0",
            "MEDAI_RIS_DICOM_PORT": "0",
            "MEDAI_RIS_HTTP_PORT": str(self.ris),
        }

    def words(self, text: str, changes: Mapping[str, str]) -> list[str]:
        """For a shell, with what is of this machine alone put in its place."""
        (script,) = {each.script for each in SHOWN if each.text == text}
        own = {
            "./medai chaos": f"{sys.executable} -m chaos", "./medai ": "medai ", "localhost:8088": f"127.0.0.1:{self.console}",
            "127.0.0.1:8090": f"127.0.0.1:{self.ris}", "/var/lib/ris": f"{self.folder}/ris-data",
        }  # fmt: skip
        for old, new in {**own, **changes}.items():
            script = script.replace(old, new)
        return ["sh", "-c", script]

    def run(self, text: str, **changes: str) -> str:
        """Run a command of a page; what it printed. ``changes``: what stands for a word of it."""
        done = subprocess.run(
            self.words(text, changes),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    @contextmanager
    def serving(self, text: str, port: int) -> Iterator[None]:
        """A command that serves until it is stopped."""
        words = self.words(text, {})
        words[-1] = f"exec {words[-1]}"
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.folder, env=self.environment, stderr=log)
        try:
            wait_for(lambda: answers(port) or process.poll() is not None, within_s=60, what=text)
            assert process.poll() is None, (self.folder / "log").read_text()[-2000:]
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)  # uvicorn ends by the signal once it has cleaned up


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.slow
def test_the_commands_about_people_and_the_console_do_what_they_say(shell: Shell) -> None:
    told = {text: shell.run(text) for text in PEOPLE}
    assert "operator" in told["medai account list"]
    assert "administrator" in told["medai account role ana administrator"]
    password = told["medai account password ana"].partition(": password ")[2].split()[0]
    with shell.serving(CONSOLE, shell.console):
        answer = json.loads(shell.run(LOGIN, **{'"..."': json.dumps(password)}))
        shell.environment["TOKEN"] = answer["token"]
        for text, holds in WITH_TOKEN.items():
            assert holds in shell.run(text)
    assert (shell.folder / "u.csv").is_file()


@pytest.mark.slow
def test_the_ris_serves_and_takes_an_order(shell: Shell) -> None:
    for text in RIS:
        with shell.serving(text, shell.ris):
            assert "A1" in shell.run(ORDER)


@pytest.mark.slow
def test_the_quality_of_data_is_looked_at(shell: Shell) -> None:
    judging_cases.write_blocks(shell.folder / "DATA", dict.fromkeys("abcdefgh", 0))
    shell.run(QUALITY[0])
    assert (shell.folder / "qa" / "report.html").is_file()
    assert json.loads(shell.run(QUALITY[1]))["cases"]


@pytest.mark.slow
def test_hospitals_are_simulated_and_planned(shell: Shell) -> None:
    assert all(re.search(r"monday-morning|\bp95\b", shell.run(text)) for text in TRIALS)


@pytest.mark.slow
def test_faults_are_listed_and_codes_written(shell: Shell) -> None:
    assert "redis-flushed" in shell.run(FAULTS)
    shell.run(CODES)
    assert json.loads((shell.folder / "spleen.json").read_text())["segments"][0]["name"] == "Spleen"
