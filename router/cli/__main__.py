"""``python -m medai.router.cli``: the command line where no ``medai`` is on the path (child processes, units)."""

from __future__ import annotations

import sys

from medai.router.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
