"""Without numba the stage gives the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import hashlib, sys, warnings
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "plain":
    sys.modules["numba"] = None
    warnings.simplefilter("error")
from operators.compiled import COMPILED
assert COMPILED == (sys.argv[2] != "plain")
import numpy
from tests.unit.operators import test_ground_places, test_packed_state
from tests.unit.operators.hostile import Run, draw_site, draw_stream
from tests.unit.operators.scenes import CAMERA, noisy_scene
digest = hashlib.sha256()
scene = noisy_scene(3, duration_s=12.0)
on_the_ground = test_ground_places.stage(True).logic(CAMERA), test_ground_places.records(True, 5.0)
for logic, records in ((scene.fresh(), scene.records), on_the_ground):
    for record in records:
        for output in logic.on_record(record):
            digest.update(output.value)
        digest.update(logic.snapshot())
rng = numpy.random.default_rng([10, 5])
hostile_run, steps = Run(draw_site(rng)), draw_stream(rng, 60)
for step in steps:
    for output in hostile_run.take(step):
        digest.update(output.value)
    digest.update(hostile_run.state or b"")
for seed in range(30):
    digest.update(test_packed_state.filled(seed).bytes())
print(digest.hexdigest())
"""


def digest(way: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(REPO_ROOT), way], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compiled_and_plain_kernels_give_the_same_outputs_and_snapshots() -> None:
    assert digest("plain") == digest("compiled")
