"""Draw the key image: three cuts with contours, letters, scale and position, and a legend; no patient's name.

``compose`` puts it together. Text uses the typeface that Pillow carries, so the picture is the same everywhere.
Next: key_image.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medai.models.volume import Segment, Segmentation
from medai.router.contract import Measurement
from medai.workers.results.identity import plain
from medai.workers.results.measure import MEAN_ATTENUATION, TOTAL, VOLUME
from medai.workers.results.planes import Array, Cut

PANEL = 512
BANNER = 48
SIZE = (2 * PANEL, 2 * PANEL + BANNER)
LINE_PX = 1.8
"""Width of a contour."""
AROUND_PX = 8
"""So far around what is covered a contour is looked for: its line and the smoothing reach less far."""
BANNER_TEXT = "AI, not for diagnostic use"
WHITE, GREY, DARK, AMBER, INK = (255, 255, 255), (185, 190, 196), (16, 18, 22), (255, 184, 28), (24, 20, 8)
SCALES_MM = (200, 100, 50, 20, 10, 5, 2)
MARGIN = 12
QUANTITY_TEXT = {VOLUME: "{:,.1f} ml", MEAN_ATTENUATION: "mean {:.0f} HU"}
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Grey levels: everything below ``low`` is black, above ``high`` white."""

    low: float
    high: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the legend."""

    colour: tuple[int, int, int] | None
    name: str
    numbers: str


def compose(
    cuts: Sequence[Cut], window: Window, segmentation: Segmentation, measurements: Sequence[Measurement]
) -> Image.Image:
    """The whole picture: banner, axial and coronal above, sagittal and legend below."""
    picture = Image.new("RGB", SIZE, DARK)
    places = ((0, BANNER), (PANEL, BANNER), (0, BANNER + PANEL))
    for each, place in zip(cuts, places, strict=True):
        picture.paste(panel(each, window, segmentation.segments), place)
    picture.paste(legend(segmentation, measurements, window), (PANEL, BANNER + PANEL))
    _banner(picture)
    return picture


def panel(each: Cut, window: Window, segments: Sequence[Segment]) -> Image.Image:
    """One cut with everything on it."""
    picture = Image.fromarray(shade(each.grey, each.coverage, window, segments))
    _annotate(picture, each)
    return picture


def shade(grey: Array, coverage: Mapping[int, Array], window: Window, segments: Sequence[Segment]) -> Rgb:
    """Grey levels with a contour of each segment's colour; ``coverage`` as in Cut."""
    span = max(window.high - window.low, 1e-6)
    level = np.nan_to_num(np.clip((grey - window.low) / span, 0, 1), nan=0.0) * 255
    rgb = np.repeat(level[..., None], 3, axis=2)
    for segment in segments:
        if segment.number in coverage:
            line = contour(coverage[segment.number])[..., None]
            rgb = rgb * (1 - line) + np.asarray(segment.colour, dtype=float) * line
    return np.round(rgb).astype(np.uint8)


def page(drawn: Rgb, line: str, segments: Sequence[Segment]) -> Rgb:
    """A drawn slice under a banner, with a line of text and the segments' names on it."""
    height, width = drawn.shape[:2]
    strip = banner_height(width)
    picture = Image.new("RGB", (width, height + strip), DARK)
    picture.paste(Image.fromarray(drawn), (0, strip))
    pen, size = ImageDraw.Draw(picture), max(strip * 2 // 5, 10)
    _banner(picture, strip)
    _write(pen, (size / 2, strip + size / 2), line, size, WHITE)
    for row, segment in enumerate(segments, start=1):
        place = (size / 2, strip + size / 2 + 1.4 * size * row)
        _write(pen, place, plain(segment.name, 44), size, segment.colour)
    return np.asarray(picture)


def banner_height(width: int) -> int:
    """Of a picture that is not the key image: as that one's banner is to its width."""
    return round(width * BANNER / SIZE[0])


def contour(coverage: Array) -> Array:
    """Opacity [h, w] of a smooth line of LINE_PX where ``coverage`` passes one half."""
    inside = coverage >= 0.5
    line = np.zeros_like(coverage)
    if inside.all() or not inside.any():
        return line
    near = tuple(slice(max(low - AROUND_PX, 0), high + AROUND_PX) for low, high in _bounds(inside))
    inside = inside[near]
    distance = np.where(inside, ndimage.distance_transform_edt(inside), -ndimage.distance_transform_edt(~inside))
    smooth = ndimage.gaussian_filter(distance - np.sign(distance) * 0.5, 0.8)
    line[near] = np.clip(LINE_PX / 2 + 0.5 - np.abs(smooth), 0, 1)
    return line


def _bounds(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and one past the last row, then column, that hold anything."""
    for axis in (1, 0):
        found = np.flatnonzero(mask.any(axis=axis))
        yield int(found[0]), int(found[-1]) + 1


def legend(segmentation: Segmentation, measurements: Sequence[Measurement], window: Window) -> Image.Image:
    """What the colours mean, the numbers, the verdict with what led to it, and who says so."""
    picture = Image.new("RGB", (PANEL, PANEL), DARK)
    pen, model = ImageDraw.Draw(picture), segmentation.model
    _write(pen, (MARGIN, 14), plain(model.title, 44), 22, WHITE)
    _write(pen, (MARGIN, 46), plain(f"{model.name} {model.version}, result not verified", 60), 15, GREY)
    bottom = PANEL - 30
    _write(pen, (MARGIN, bottom), window.text, 14, GREY)
    plausibility = segmentation.plausibility
    lines = [line for text in plausibility.findings for line in _wrap(f"Check: {plain(text, 300)}", 17)][:6]
    top_of_verdict = bottom - 10 - 22 * (len(lines) + 1)
    good = plausibility.verdict == "plausible"
    verdict = f"{'Plausible' if good else 'To be checked'}: {plausibility.summary}"
    _write(pen, (MARGIN, top_of_verdict), verdict, 17, WHITE if good else AMBER)
    for number, line in enumerate(lines, start=1):
        _write(pen, (MARGIN, top_of_verdict + 22 * number), line, 17, AMBER)
    _rows(pen, entries(segmentation, measurements), top=84, bottom=top_of_verdict - 8)
    return picture


def entries(segmentation: Segmentation, measurements: Sequence[Measurement]) -> list[Entry]:
    """A line for each segment, then one for each total."""
    found = [
        Entry(colour=segment.colour, name=segment.name, numbers=numbers_text(segment, measurements))
        for segment in segmentation.segments
    ]
    totals = [m for m in measurements if m.segment_number == TOTAL]
    return found + [
        Entry(colour=None, name=f"{m.segment_name}, total", numbers=QUANTITY_TEXT[m.quantity].format(m.value))
        for m in totals
    ]


def _rows(pen: ImageDraw.ImageDraw, lines: Sequence[Entry], *, top: int, bottom: int) -> None:
    """A coloured square, the name and the numbers of each, as many as fit."""
    height = 50 if len(lines) * 50 <= bottom - top else 24
    room = max((bottom - top) // height, 1)
    shown = lines if len(lines) <= room else lines[: room - 1]
    for row, each in enumerate(shown):
        y = top + row * height
        if each.colour is not None:
            pen.rectangle((MARGIN, y + 2, MARGIN + 16, y + 18), fill=each.colour)
        if height > 24:
            _write(pen, (MARGIN + 28, y), plain(each.name, 44), 18, WHITE)
            _write(pen, (MARGIN + 28, y + 22), each.numbers, 17, GREY)
        else:
            _write(pen, (MARGIN + 28, y), f"{plain(each.name, 28)}: {each.numbers}", 15, WHITE)
    if len(shown) < len(lines):
        _write(pen, (MARGIN, top + len(shown) * height), f"and {len(lines) - len(shown)} more", 15, GREY)


def numbers_text(segment: Segment, measurements: Sequence[Measurement]) -> str:
    """A segment's measurements as people read them."""
    own = [m for m in measurements if m.segment_number == segment.number]
    if any(m.quantity == VOLUME and m.value == 0 for m in own):
        return "not found"
    return ", ".join(QUANTITY_TEXT[m.quantity].format(m.value) for m in own)


def _annotate(picture: Image.Image, each: Cut) -> None:
    pen, middle = ImageDraw.Draw(picture), PANEL // 2
    left, right, top, bottom = each.view.letters
    _write(pen, (MARGIN, middle), left, 22, WHITE, anchor="lm")
    _write(pen, (PANEL - MARGIN, middle), right, 22, WHITE, anchor="rm")
    _write(pen, (middle, MARGIN), top, 22, WHITE, anchor="mt")
    _write(pen, (middle, PANEL - MARGIN), bottom, 22, WHITE, anchor="mb")
    _write(pen, (MARGIN, MARGIN), f"{each.view.name}  {place_text(each)}", 16, WHITE)
    _scale_bar(pen, each.pixel_mm)
    pen.rectangle((0, 0, PANEL - 1, PANEL - 1), outline=(44, 48, 54))


def place_text(each: Cut) -> str:
    """Where the plane lies, by the letter of the side of the patient axis: "H 34.5 mm"."""
    letters = (("R", "L"), ("A", "P"), ("F", "H"))[each.view.axis]
    return f"{letters[int(each.position_mm >= 0)]} {abs(each.position_mm):.1f} mm"


def scale_mm(pixel_mm: float) -> int:
    """The longest bar of a round length that takes at most a third of the panel."""
    return next((mm for mm in SCALES_MM if mm / pixel_mm <= PANEL / 3), 1)


def _scale_bar(pen: ImageDraw.ImageDraw, pixel_mm: float) -> None:
    length_mm = scale_mm(pixel_mm)
    right, y = PANEL - MARGIN - 4, PANEL - MARGIN - 4
    left = right - length_mm / pixel_mm
    for colour, width in ((DARK, 5), (WHITE, 2)):
        pen.line((left, y, right, y), fill=colour, width=width)
        for x in (left, right):
            pen.line((x, y - 5, x, y + 5), fill=colour, width=width)
    _write(pen, ((left + right) / 2, y - 8), f"{length_mm} mm", 15, WHITE, anchor="mb")


def _banner(picture: Image.Image, height: int = BANNER) -> None:
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, picture.width, height - 1), fill=AMBER)
    size = height * 28 // BANNER
    pen.text((picture.width / 2, height / 2), BANNER_TEXT, font=_font(size), fill=INK, anchor="mm")


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    *,
    anchor: str = "lt",
) -> None:
    """Text with a dark rim, readable on any grey."""
    pen.text(place, text, font=_font(size), fill=colour, anchor=anchor, stroke_width=2, stroke_fill=DARK)


def _wrap(text: str, size: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(size).getlength(longer) <= PANEL - 2 * MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
