"""``python tests/mutation``."""

import os
import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(_TESTS.parent / ".lint"), str(_TESTS)]
for _library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when numpy and torch are imported
    os.environ.setdefault(_library, "1")  # each mutant is a fork: no thread may run before it

from mutation.cli import main  # noqa: E402  # after path and environment are set

if __name__ == "__main__":  # each module is tried by a process that imports this one
    sys.exit(main())
