"""``medai tls``: a certificate authority of the site's own, and certificates from it. Next: onebox/authority.py."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from medai.router.cli.options import command, print_json, site_folder
from medai.router.errors import SettingsError

FIRST = ("router", "ris")
"""Whose certificates ``init`` makes: the router's, which is server and client, and one for the RIS to show."""


def tls_commands(commands: Any) -> None:
    """``medai tls init`` and ``medai tls add``."""
    text = "make a certificate authority for this site, and certificates from it"
    example = "medai tls init --host router.hospital.example"
    tls = command(commands, "tls", cmd_tls, text, example=example)
    tls.add_argument("what", choices=["init", "add"], help="init: the authority and a first set; add: one more")
    tls.add_argument("name", nargs="?", default="", help="with add: whose certificate; also the name of its files")
    tls.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="name or address of a server; may be repeated"
    )
    tls.add_argument("--to", type=Path, metavar="FOLDER", help="where the files are (default: tls in --dir)")


def cmd_tls(options: argparse.Namespace) -> int:
    """Make them, and tell where they are."""
    from medai.router.onebox import authority

    folder = (options.to or site_folder(options) / "tls").resolve()
    if options.what == "init":
        if options.name:
            raise SettingsError("init takes no name: 'medai tls add NAME' makes another certificate")
        made = [authority.make_authority(folder)]
        hosts = tuple(dict.fromkeys((*options.host, *authority.LOOPBACK)))
        made += [authority.make_pair(folder, name, hosts if name == FIRST[0] else ()) for name in FIRST]
    else:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", options.name) or options.name == authority.AUTHORITY:
            raise SettingsError("name the certificate by letters, digits, dots and hyphens")
        made = [authority.make_pair(folder, options.name, options.host)]
    if options.json:
        print_json({"folder": str(folder), "certificates": [str(path) for path in made]})
        return 0
    print("\n".join(f"{path} (its key: {path.with_suffix('.key').name})" for path in made))
    if options.what == "init":
        print(_next(folder))
    return 0


def _next(folder: Path) -> str:
    """What to write into medai.toml, and what to do with the authority's key."""
    files = f'certificate_file = "{folder}/router.pem"\nkey_file = "{folder}/router.key"\nca_file = "{folder}/ca.pem"'
    return (
        f"\norders over TLS, in medai.toml:\n\n[hl7_in.tls]\n{files}\n\n[ris]\ntls = true\n{files}\n\n"
        f"Give ris.pem, ris.key and ca.pem to the RIS. Keep {folder}/ca.key off this machine: it signs certificates."
    )
