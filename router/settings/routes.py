"""The tables [[routes]] of medai.toml: which studies, which of their series, which model, where the results go.

Next: routing/rules.py (the choice), routing/completeness.py (when).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medai.router.settings.section import Seconds, Section


class CompletenessSettings(Section):
    """When a study counts as complete, for one route."""

    quiet_s: Seconds = 3.0
    """Seconds without a new image after which a study of unknown size counts as complete."""
    max_wait_s: Seconds = 60.0
    """Longest wait for images that were announced but do not come, from the last one that came."""
    max_step_s: Seconds = 600.0
    """Longest wait for the end of a performed procedure step (MPPS) that is in progress, from the last image or the
    step's beginning."""
    expect: tuple[str, ...] = ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances", "mpps", "ian")
    """What is trusted: attributes as expected counts; ``mpps`` and ``ian`` as lists of what there is, where
    [announcements] takes them. ``ImagesInAcquisition`` may be added where scanners are known to send one series an
    acquisition."""


class SeriesSettings(Section):
    """Which series of a matching study a route takes."""

    where: str = ""
    """CEL over ``s`` (one series) and ``study``; empty: all."""
    modality: tuple[str, ...] = ()
    """Modalities to take; empty: any image modality."""
    orientation: tuple[Literal["axial", "coronal", "sagittal", "oblique"], ...] = ()
    """Planes to take; empty: any."""
    slices_min: Annotated[int, Field(ge=1)] = 1
    """Fewest images of the series."""
    slices_max: Annotated[int, Field(ge=1)] = 5000
    """Most images of the series."""
    thickness_min_mm: Seconds = 0.0
    """Thinnest slices to take."""
    thickness_max_mm: Seconds = 1000.0
    """Thickest slices to take."""
    image_type_excludes: tuple[str, ...] = ("LOCALIZER", "DERIVED", "SCREEN SAVE", "PROJECTION IMAGE", "MIP")
    """Series whose Image Type holds one of these are left out."""
    prefer: Literal["most_slices", "thinnest", "first"] = "most_slices"
    """Which of several series that qualify is the best one."""
    take: Literal["best", "all"] = "best"
    """``best``: the preferred one; ``all``: a reading of each."""


RouteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class RouteSettings(Section):
    """One route: which studies, which series of them, which model, where the results go."""

    name: RouteName
    """Lower-case letters, digits, - and _; in every decision, metric and filler number."""
    when: str = "true"
    """CEL over ``study`` and ``series``; see docs/routes.md."""
    model: str
    """Which model reads the series."""
    model_version: str = ""
    """Empty: the version that the worker's registry holds when the reading is created."""
    queue: Literal["cpu", "gpu"] = "cpu"
    """Which workers read it; a GPU worker serves both queues, and uses its GPU for either."""
    priority: Literal["order", "stat", "urgent", "routine", "background"] = "order"
    """``order``: from the order, else the Requested Procedure Priority, else routine."""
    destinations: tuple[str, ...] = ("archive", "ris")
    """"archive" (required), "ris", and names of [destinations]."""
    series: SeriesSettings = SeriesSettings()
    """Which series of the study it takes: [routes.series]."""
    completeness: CompletenessSettings = CompletenessSettings()
    """When the study counts as complete: [routes.completeness]."""
