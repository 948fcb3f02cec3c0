"""The tables of the DICOM statement: from the code's own tables, and from objects that it encodes.

Next: made_reading.py (the objects), tables.py (where the tables are written).
"""

from __future__ import annotations

import ast
import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import made_reading as made
from pydicom import Dataset
from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, UID_dictionary
from pynetdicom import DEFAULT_TRANSFER_SYNTAXES, PYNETDICOM_IMPLEMENTATION_UID

from medai.models.images.decode import DECODERS, MAX_BYTES, NATIVE
from medai.models.images.series import PASSES
from medai.models.images.slices import MIN_SLICES
from medai.router.announcements.listener import SYNTAXES
from medai.router.contract import MODALITIES, NOT_IMAGES
from medai.router.files.dicom_scan import DEPTH_LIMIT
from medai.router.settings import page
from medai.router.settings.tables import Settings
from medai.workers.results import codes
from medai.workers.results.dicom_object import OUR_SCHEME
from medai.workers.results.encode import Results

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"seg": "Segmentation", "sr": "Comprehensive 3D SR", "sc": "Secondary Capture Image"}
ITEMS = "(items)"
"""Stands for the items of a sequence, which have rows of their own."""
LONGEST = 70
"""Characters of a value that a table shows."""
NOT_TOLD = frozenset({"SoftwareVersions"})
"""Attributes of which the value is the installation's, and not the made reading's."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def tables() -> dict[str, Callable[[], str]]:
    """Name of a table -> what makes it."""
    found: dict[str, Callable[[], str]] = {
        "classes": _classes,
        "syntaxes": _syntaxes,
        "modalities": _modalities,
        "limits": _limits,
        "passes": _passes,
        "orthanc": _orthanc,
        "rest": _rest,
        "contexts": _contexts,
        "report": _report,
        "codes": _codes,
        "anatomy": _anatomy,
        "scheme": _scheme,
        "settings-dicom": lambda: settings(
            "orthanc", "announcements", "workitems", "results", "watch_folder", "destinations"
        ),
    }
    for kind in KINDS:
        found[f"iod-{kind}"] = lambda kind=kind: _iod(kind)
    return found


# -- what is read


def _syntaxes() -> str:
    rows = []
    for uid in sorted((UID(uid) for uid in UID_dictionary), key=lambda uid: [int(part) for part in uid.split(".")]):
        if uid.is_transfer_syntax and (by := _decoder(uid)):
            rows.append((uid.name, f"`{uid}`", by))
    return table(("transfer syntax", "UID", "pixels by"), rows)


def _decoder(uid: UID) -> str:
    """As models/images/decode.py chooses; empty where pixels of this encoding can't be decoded."""
    if uid in NATIVE:
        return "uncompressed"
    try:
        installed = get_decoder(uid).available_plugins
    except (NotImplementedError, ValueError):
        return ""
    return next((name for name in DECODERS if name in installed), "")


def _modalities() -> str:
    reads: dict[str, list[str]] = {}
    for name, metadata in _bundles():
        modality = metadata["network_data_format"]["inputs"]["image"].get("modality", "")
        reads.setdefault(modality, []).append(f"`{name}`")
    rows = [(modality, ", ".join(names)) for modality, names in sorted(reads.items())]
    passed = ", ".join(sorted(NOT_IMAGES))
    others = ", ".join(sorted(MODALITIES - NOT_IMAGES - set(reads)))
    more = f"Passed over as no images: {passed}.\n\nFor a model that is added: {others}, where the series is a volume."
    return table(("Modality", "read by the models that ship"), rows) + f"\n\n{more}"


def _bundles() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in sorted((ROOT / "models" / "bundles").glob("*/configs/metadata.json")):
        yield path.parents[1].name, json.loads(path.read_text(encoding="utf-8"))


def _passes() -> str:
    return ", ".join(f"{dictionary_description(_tag(name))}" for name in PASSES) + "."


def _limits() -> str:
    worker = Settings().worker
    rows = (
        ("slices of a volume", f"at least {MIN_SLICES}"),
        (
            "pixels of a series, unpacked",
            f"{MAX_BYTES // 2**30} GiB; `worker.max_series_gb` ({worker.max_series_gb:g})",
        ),
        ("one file", f"{worker.max_image_gb:g} GiB (`worker.max_image_gb`)"),
        ("nested sequences", f"{DEPTH_LIMIT}"),
        (
            "connections to Orthanc per worker while a series is fetched",
            f"{worker.fetch_threads} (`worker.fetch_threads`)",
        ),
        ("Accession Number in results", "16 characters; a longer one is left out"),
        ("a peer that stays away", f"{worker.give_up_h:g} h (`worker.give_up_h`), then a person decides"),
    )
    return table(("limit", "value"), rows)


# -- the network


def _orthanc() -> str:
    given = json.loads((ROOT / "orthanc" / "orthanc.json").read_text(encoding="utf-8"))
    rows = [(f"`{key}`", f"`{json.dumps(value)}`") for key, value in given.items() if key != "DicomWeb"]
    rows += [(f"`DicomWeb.{key}`", f"`{json.dumps(value)}`") for key, value in given["DicomWeb"].items()]
    return table(("key of orthanc/orthanc.json", "value"), rows)


def _rest() -> str:
    """Every address of Orthanc that the code asks for, out of the calls themselves."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in ("router/orthanc/client.py", "router/orthanc/recode.py", "router/cli/check.py"):
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (call := _call(node)):
                found.setdefault(call, set()).add(f"`{name}`")
    rows = [(method, f"`{path}`", ", ".join(sorted(files))) for (method, path), files in sorted(found.items())]
    return table(("method", "resource of Orthanc", "asked by"), rows)


def associations() -> Iterator[tuple[str, str, str, str]]:
    """Module, role, AE title and SOP Class of every presentation context that the product asks for or takes itself."""
    for path in sorted(path for room in ("router", "workers", "models") for path in (ROOT / room).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "pynetdicom import" not in text:
            continue
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        titles = [each.value for node in calls for each in node.keywords if each.arg == "ae_title"]
        title = next((each.value for each in titles if isinstance(each, ast.Constant)), "announcements.ae_title")
        names = _constants(text)
        for node in calls:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in ROLES:
                uid = _text(node.args[0]) or names[ast.unparse(node.args[0])]
                yield str(path.relative_to(ROOT)), ROLES[name], str(title), uid


ROLES = {"add_requested_context": "SCU", "add_supported_context": "SCP"}


def _constants(text: str) -> dict[str, str]:
    """Names of a module that stand for one text."""
    return {
        target.id: node.value.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _contexts() -> str:
    syntaxes = {"SCU": DEFAULT_TRANSFER_SYNTAXES, "SCP": SYNTAXES}
    rows = [
        (
            f"{UID(uid).name} `{uid}`",
            role,
            ", ".join(UID(each).name for each in syntaxes[role]),
            f"`{title}`",
            f"`{module}`",
        )
        for module, role, title, uid in associations()
    ]
    named = f"Implementation Class UID `{PYNETDICOM_IMPLEMENTATION_UID}` (pynetdicom's). No extended negotiation."
    return table(("abstract syntax", "role", "transfer syntaxes", "AE title", "in"), rows) + f"\n\n{named}"


def _call(node: ast.Call) -> tuple[str, str] | None:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    arguments = [_text(each) for each in node.args]
    if name in ("get", "post") and arguments[:1] and arguments[0].startswith("/"):
        return name.upper(), arguments[0]
    if name == "request" and len(arguments) > 1 and arguments[1].startswith("/"):
        return arguments[0], arguments[1]
    return None


def _text(node: ast.expr) -> str:
    """A text with {…} where a value goes, without its query."""
    if isinstance(node, ast.Constant):
        return str(node.value).partition("?")[0]
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts = (str(each.value) if isinstance(each, ast.Constant) else "{…}" for each in node.values)
    return "".join(parts).partition("?")[0]


def settings(*names: str) -> str:
    """The tables of docs/configuration.md that matter to a peer."""
    parts = []
    for title, model, prefix in page.sections():
        if any(title.startswith((f"`[{name}]`", f"`[{name}.")) for name in names):
            rows = "\n".join(page.rows(model, prefix))
            parts.append(f"{title}:\n\n| key | default | environment | meaning |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(parts)


# -- the objects


def _classes() -> str:
    rows = []
    for kind, title in KINDS.items():
        result = made.results(made.BASE).objects[kind]
        syntax = result.file_meta.TransferSyntaxUID
        rows.append((title, f"`{result.SOPClassUID}`", result.Modality, f"{syntax.name} (`{syntax}`)"))
    return table(("SOP Class", "UID", "Modality", "transfer syntax in which it is written"), rows)


def _iod(kind: str) -> str:
    """Attributes by module: what is there, what it says and where it comes from."""
    found = made.differences(lambda result: _flat(result.objects[kind]))
    iod = str(made.results(made.BASE).objects[kind].SOPClassUID)
    modules = _modules(iod)
    order = {name: place for place, name in enumerate(modules)}
    tops: dict[str, str] = {}
    for path in found:
        top = path.split("/")[0]
        tops.setdefault(top, next((name for name, held in modules.items() if top in held), "(standard extension)"))
    rows: dict[str, list[Sequence[str]]] = {}
    for path in sorted(found, key=lambda path: order.get(tops[path.split("/")[0]], len(order))):
        rows.setdefault(tops[path.split("/")[0]], []).append(_attribute(path, found[path]))
    parts = []
    for name, lines in rows.items():
        parts.append(f"**{name}**\n\n" + table(("attribute", "tag", "VR", "present", "source", "value"), lines))
    return "\n\n".join(parts)


def _attribute(path: str, told: made.Told) -> Sequence[str]:
    *above, keyword = path.split("/")
    tag = _tag(keyword)
    text = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    kind = dictionary_VR(tag)
    value = "" if keyword in NOT_TOLD or told.sources else shown(told.values)
    return (
        ">" * len(above) + " " * bool(above) + dictionary_description(tag),
        text,
        kind,
        told.presence,
        source(told),
        value,
    )


def source(told: made.Told) -> str:
    """In one word or a few; a sequence of which only the items say something has none."""
    if told.presence == "EMPTY" or (told.values == (ITEMS,) and not told.sources):
        return ""
    return ", ".join(told.sources) or "fixed"


def shown(values: Sequence[str]) -> str:
    """A fixed value, or several."""
    text = ", ".join(value for value in values if value != ITEMS)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def _flat(dataset: Dataset) -> dict[str, frozenset[str]]:
    """Path of keywords -> every text that stands there, over all items; a code is one text."""
    found: dict[str, set[str]] = {}
    _gather(dataset, "", found)
    return {path: frozenset(texts) for path, texts in found.items()}


def _gather(dataset: Dataset, above: str, found: dict[str, set[str]]) -> None:
    for element in dataset:
        path = above + element.keyword
        if not element.keyword or element.keyword == "ContentSequence":
            continue  # the content of a report has a table of its own
        texts = found.setdefault(path, set())
        if element.VR != "SQ":
            texts.add(_value(element.value))
            continue
        for item in element.value:
            texts.add(_code(item) if "CodeValue" in item else ITEMS)
            rest = Dataset()
            rest.update({e.tag: e for e in item if not (_code(item) and e.keyword in CODE)})
            _gather(rest, path + "/", found)


CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")


def _code(item: Dataset) -> str:
    if "CodeValue" not in item:
        return ""
    return f"{item.CodeValue} {item.CodingSchemeDesignator} {item.get('CodeMeaning', '')}"


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "\\".join(map(str, value)) if several else str(value)


@cache
def _modules(sop_class: str) -> dict[str, frozenset[str]]:
    """Modules of an IOD, in the order of PS3.3 -> the attributes at their top."""
    iod = _standard("sop_class_iod_map")[sop_class]
    attributes = _standard("module_attribute_map")
    return {
        _title(module["key"]): frozenset(each["keyword"] for each in attributes[module["key"]] if not each["path"])
        for module in _standard("iod_module_map")[iod]
    }


@cache
def _standard(name: str) -> Any:
    """PS3.3's tables as highdicom carries them."""
    data = pkgutil.get_data("highdicom", f"_standard/{name}.json")
    assert data is not None
    return json.loads(data)


def _title(key: str) -> str:
    words = key.replace("multi-frame", "multiframe").split("-")
    return " ".join(word.upper() if word in ("sop", "sr", "sc", "icc") else word.capitalize() for word in words)


# -- the report


def _report() -> str:
    """The content tree: each kind of item once."""
    found = made.differences(lambda result: _tree(result))
    rows = []
    for path, told in found.items():
        *above, item = path.split("/")
        relation, kind, concept = item.split("|")
        value = "" if told.sources else shown(told.values)
        rows.append((">" * len(above) + " " + relation, kind, concept, told.presence, source(told), value))
    return table(("relationship", "value type", "concept", "present", "source", "value"), rows)


def _tree(result: Results) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    root = result.objects["sr"]
    place = f"|CONTAINER|{_code(root.ConceptNameCodeSequence[0])}"
    found[place] = {ITEMS}
    _branch(root.ContentSequence, place, found)
    return {path: frozenset(texts) for path, texts in found.items()}


def _branch(items: Items, above: str, found: dict[str, set[str]]) -> None:
    for item in items:
        name = _code(item.ConceptNameCodeSequence[0]) if "ConceptNameCodeSequence" in item else ""
        place = f"{above}/{item.RelationshipType}|{item.ValueType}|{name}"
        found.setdefault(place, set()).add(_said(item))
        _branch(item.get("ContentSequence") or Items(), place, found)


def _said(item: Dataset) -> str:
    if item.ValueType == "CODE":
        return _code(item.ConceptCodeSequence[0])
    if item.ValueType == "NUM":
        number = item.MeasuredValueSequence[0]
        return f"{number.NumericValue} {number.MeasurementUnitsCodeSequence[0].CodeValue}"
    if item.ValueType in ("IMAGE", "COMPOSITE"):
        return str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    return str(item.get("TextValue") or item.get("UID") or ITEMS)


# -- the codes


def _codes() -> str:
    """Every code of the code's own tables, and where it is."""
    rows = []
    named = {
        "kind of algorithm": [codes.ARTIFICIAL_INTELLIGENCE],
        "procedure reported, by modality": [*codes.PROCEDURES.values(), codes.ANY_PROCEDURE],
        "measurement": list(codes.QUANTITIES.values()),
        "side and part of a site": [codes.LATERALITY, codes.TOPOGRAPHY],
        "verdict of the checks": [codes.ASSESSMENT, *codes.VERDICTS.values()],
    }
    for use, found in named.items():
        for code in dict.fromkeys(found):
            rows.append((code.value, code.scheme, code.meaning, use))
    return table(("value", "scheme", "meaning", "use"), rows)


def _anatomy() -> str:
    """Of the segments of the models that ship."""
    used: dict[tuple[str, str, str, str], list[str]] = {}
    for bundle, metadata in _bundles():
        for segment in _segments(metadata):
            for part in ("category", "type", "modifier", "topography", "site"):
                if segment.get(part):
                    value, scheme, meaning = segment[part]
                    names = used.setdefault((value, scheme, meaning, part), [])
                    names.extend([f"`{bundle}`"] * (f"`{bundle}`" not in names))
    rows = [(*code, ", ".join(names)) for code, names in sorted(used.items(), key=lambda item: (item[0][3], item[0]))]
    return table(("value", "scheme", "meaning", "as", "in"), rows)


def _segments(found: Any) -> Iterator[Mapping[str, Any]]:
    """Wherever a bundle's metadata holds them."""
    if isinstance(found, Mapping):
        if "category" in found and "type" in found:
            yield found
        for value in found.values():
            yield from _segments(value)
    elif isinstance(found, list):
        for value in found:
            yield from _segments(value)


def _scheme() -> str:
    head = table(
        ("attribute of the Coding Scheme Identification Sequence", "value"),
        [(dictionary_description(element.tag), str(element.value)) for element in OUR_SCHEME],
    )
    rows = [(code.value, code.meaning, name) for name, code in codes.VERDICTS.items()]
    return f"{head}\n\n" + table(("value", "meaning", "when the verdict is"), rows)
