"""``python -m mutation``."""

import os
import sys

for _library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when numpy and torch are imported
    os.environ.setdefault(_library, "1")  # each mutant is a fork: no thread may run before it

from mutation.cli import main  # noqa: E402  # after the environment is set

sys.exit(main())
