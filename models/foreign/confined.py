"""``python -m medai.models.foreign.confined BUNDLE``: the dry run of a model, in a process that is confined first.

Next: sandbox.py (what holds it), dry_run.py (what runs).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from medai.models.foreign import sandbox


def main(arguments: list[str]) -> int:
    """Confine, then import and run."""
    held = sandbox.confine([Path(arguments[0])], Path(tempfile.gettempdir()))
    from medai.models.foreign import dry_run  # starts threads, which must be held, too

    return dry_run.main([*arguments, held])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
