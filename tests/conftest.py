"""What all tests share: imports from the checkout, and data that the project uses but never copies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("sightflow", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("sightflow")

REPO_ROOT = Path(__file__).resolve().parent.parent
# pytest's importlib mode adds nothing to the path, and tests import what they share as `tests.…`.
if str(REPO_ROOT) not in sys.path:
    sys.path.insert(0, str(REPO_ROOT))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: `$SIGHTFLOW_DATA`, else beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("SIGHTFLOW_DATA", REPO_ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("needs the data sets in ../shared/data, which are not part of the project")
    return folder
