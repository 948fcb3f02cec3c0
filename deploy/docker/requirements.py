"""Print what the package needs with the extras that are named, one requirement a line, from pyproject.toml.

The images install these before the code comes in, so that a changed line of code doesn't fetch PyTorch again.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print(
    *project["dependencies"],
    *(line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]),
    sep="\n",
)
