"""Tests of recipes/. Its scripts import each other by bare names, as they do when they are run."""

import sys
from pathlib import Path

NANO = Path(__file__).parents[2] / "recipes" / "nano"
if str(NANO) not in sys.path:
    sys.path.append(str(NANO))
