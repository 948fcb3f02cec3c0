"""What a model costs on this machine: seconds of the clock and of the processor for one series, and memory.

  .venv/bin/python benchmarks/models.py SERIES/ --model ct_lungs
  .venv/bin/python benchmarks/models.py --smoke      a small phantom: whether it still runs, not a figure to quote

SERIES is a folder of DICOM or a NIfTI file. Only the model is measured: neither decoding nor what is made of its mask.
The median of the rounds is told; the first, which also warms up, is left out.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

from medai.models.errors import ModelRefused
from medai.models.foreign.phantom import phantom
from medai.models.images.preprocess import nifti_to_volume, series_to_volume
from medai.models.registry import Registry
from medai.models.segmenters.load import Segmenter
from medai.models.volume import Volume
from medai.router.settings.tables import WorkerSettings
from medai.workers.source_files import read_series


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="?", type=Path)
    parser.add_argument("--model", default="ct_lungs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a small form of it that takes seconds")
    options = parser.parse_args()
    if options.series is None and not options.smoke:
        parser.error("name a SERIES, or --smoke")
    model = Registry(threads=options.threads).load(options.model)
    volume = phantom(model.spec) if options.smoke else volume_of(options.series, model)
    rounds = [once(model, volume) for _ in range(1 if options.smoke else options.rounds + 1)]
    wall_s, cpu_s = (statistics.median(figures) for figures in zip(*(rounds[1:] or rounds), strict=True))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.model} on {volume.geometry.shape}, {options.threads} threads, median of {len(rounds[1:])} rounds:")
    print(f"{wall_s:.2f} s of the clock, {cpu_s:.2f} s of the processor, {peak_mb:.0f} MB at most (with decoding)")


def volume_of(path: Path, model: Segmenter) -> Volume:
    """One series, decoded."""
    if path.is_file():
        return nifti_to_volume(path, modality=sorted(model.spec.modalities)[0])
    return series_to_volume(read_series(path, number=None, worker=WorkerSettings()).images).volume


def once(model: Segmenter, volume: Volume) -> tuple[float, float]:
    """Seconds of the clock and of the processor; a phantom may be refused in the end."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    try:
        model.segment(volume)
    except ModelRefused as error:
        print(f"refused: {error}")
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


if __name__ == "__main__":
    main()
