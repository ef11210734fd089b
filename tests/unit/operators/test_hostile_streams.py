"""Settings at their extremes and streams that nobody would send: no exception, no difference between a live camera and one that is
restored, and outputs that can be read, written and believed.

`hostile.py` draws both from a seed. Seeds here are a choice of quick ones, with those that once found something.
"""

from __future__ import annotations

import numpy as np
import pytest

from operators.stages.live_camera import LiveCamera
from tests.unit.operators.hostile import Judge, Run, chance, draw_site, draw_stream

MAX_STATE_BYTES = 2_000_000
SEEDS = ((2, 150), (4, 150), (10, 150), (11, 150), (69, 300), (114, 300), (201, 200), (202, 200))
"""(seed, frames)"""


@pytest.mark.parametrize(("seed", "frames"), SEEDS)
def test_a_camera_takes_anything_and_a_restored_one_says_the_same(seed: int, frames: int) -> None:
    rng = np.random.default_rng([seed, 5])
    site = draw_site(rng, chance(rng, 0.95))
    steps = draw_stream(rng, frames)
    restarts = rng.random(len(steps)) < 0.04
    stores = chance(rng, 0.3)
    live, other, judge = Run(site), Run(site), Judge()
    for i, step in enumerate(steps):
        expected = live.take(step, stores)
        assert other.take(step) == expected, f"step {i} of {len(steps)}"
        judge.look(expected)
        if restarts[i]:
            other.restart()
    assert not judge.problems
    if isinstance(live.logic, LiveCamera) and isinstance(other.logic, LiveCamera):
        assert other.logic.snapshot() == live.logic.snapshot()
        assert len(live.logic.snapshot()) < MAX_STATE_BYTES
