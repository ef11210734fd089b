"""The Python environment with TrackEval and SciPy: of its own, because TrackEval asks for another NumPy than PyFlink."""

from __future__ import annotations

from pathlib import Path

from sightflow.bootstrap.graph import is_done, run_steps
from sightflow.bootstrap.steps import evaluate_step
from sightflow.places import Local
from sightflow.progress import Progress


def ensure(local: Local, progress: Progress) -> Path:
    """Return the environment's Python; where it is not there yet, install it from the lock first (about 60 MB).

    Raises:
        StepFailed: that failed; its log is on disk.
    """
    step = evaluate_step(local)
    if not is_done(step, local):
        run_steps([step], local, progress)
    return local.venv_evaluate / "bin" / "python"
