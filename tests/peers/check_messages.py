"""Ask readers that are not ours what they think of HL7 messages: v2fhir (PyPI), @medplum/hl7 and node-hl7-client (npm).

    python tests/peers/check_messages.py monday/messages

Exit code 0: all took every message without an error. Prints what they said of each that they did not.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = Path(sys.prefix) / "share" / "hl7-peer" / "node_modules"
"""Where ``./medai setup --test`` puts the npm packages."""
BEGIN, END = b"\x0b", b"\x1c\r"


def complaints(messages: Iterable[tuple[str, bytes]]) -> list[str]:
    """What any of them has against the messages, given as (name, bytes); empty: nothing."""
    them = list(messages)
    return [*_v2fhir(them), *_medplum(them), *_node_hl7(them)]


def _v2fhir(messages: list[tuple[str, bytes]]) -> list[str]:
    """Each message becomes a FHIR bundle that validates."""
    from v2fhir.config import default_config_path, load_config
    from v2fhir.convert import convert
    from v2fhir.errors import HL7Error
    from v2fhir.hl7.parser import parse_bytes
    from v2fhir.validate import BundleInvalid, validate_bundle

    config, found = load_config(default_config_path(), {}), []
    for name, raw in messages:
        try:
            read = parse_bytes(raw, config.default_charset, config.fallback_charsets)
            validate_bundle(convert(read, config, datetime.now(UTC)).bundle)
        except (HL7Error, BundleInvalid) as error:
            found.append(f"{name}: v2fhir: {error}")
    return found


def _medplum(messages: list[tuple[str, bytes]]) -> list[str]:
    """Each message is read over MLLP and acknowledged with AA, under its own control id."""
    found = []
    with _receiver() as (port, told), socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.settimeout(20)
        for name, raw in messages:
            line.sendall(BEGIN + raw + END)
            answer = _answer(line)
            said = json.loads(next(told))
            header = raw.split(b"\r", 1)[0].split(b"|")
            if b"\rMSA|AA|" + header[9] not in answer:
                found.append(f"{name}: medplum: not acknowledged: {answer[:200]!r}")
            elif said["kind"] != header[8].decode() or not said["patient"]:
                found.append(f"{name}: medplum: read it otherwise: {said}")
    return found


def _node_hl7(messages: list[tuple[str, bytes]]) -> list[str]:
    """Each message is parsed, and written again as it was."""
    lines = "\n".join(base64.b64encode(raw).decode() for _, raw in messages)
    command = [_node(), str(HERE / "hl7_reader.mjs"), str(PACKAGES)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=True)
    found = []
    for (name, raw), line in zip(messages, done.stdout.splitlines(), strict=True):
        told, text = json.loads(line), raw.decode("utf-8")
        if told.get("control_id") != text.split("|", 10)[9] or told.get("again", "").strip("\r") != text.strip("\r"):
            found.append(f"{name}: node-hl7: read it otherwise: {told}")
    return found


def _node() -> str:
    node = shutil.which("node", path=f"{sys.prefix}/bin:{os.environ.get('PATH', '')}")
    if node is None or not (PACKAGES / "@medplum" / "hl7").is_dir():
        raise SystemExit(f"node or {PACKAGES}/@medplum/hl7 is missing: run ./medai setup --test")
    return node


@contextmanager
def _receiver() -> Iterator[tuple[int, Iterator[str]]]:
    command = [_node(), str(HERE / "hl7_receiver.mjs"), str(PACKAGES)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ), start_new_session=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["port"], process.stdout
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # pip's node is a launcher, and leaves its child behind
        process.wait(timeout=10)
        process.stdout.close()


def _answer(line: socket.socket) -> bytes:
    data = b""
    while not data.endswith(END):
        more = line.recv(65536)
        if not more:
            return data
        data += more
    return data.strip(BEGIN + END)


def read(paths: Iterable[Path]) -> list[tuple[str, bytes]]:
    """(name, bytes) of each file, and of each ``*.hl7`` below each folder."""
    files = [each for path in paths for each in (sorted(path.rglob("*.hl7")) if path.is_dir() else [path])]
    return [(str(file), file.read_bytes()) for file in files]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE_OR_FOLDER")
    messages = read(parser.parse_args().paths)
    if not messages:
        print("no *.hl7 there", file=sys.stderr)
        return 2
    found = complaints(messages)
    kinds = Counter(raw.split(b"\r", 1)[0].split(b"|")[8].decode() for _, raw in messages)
    print("\n".join(found[:50]))
    print(
        f"{len(messages)} messages ({', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}), {len(found)} complaints"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
