"""The track table: one packed record per object, addressed by slot; other capabilities keep theirs by the same slot."""

from __future__ import annotations

import numpy as np

FREE, TENTATIVE, CONFIRMED, ENDED = 0, 1, 2, 3
"""`status` of a slot. ENDED lasts for exactly one step: every capability sees the end before the slot is reused."""

TRACK = np.dtype(
    [
        ("ordinal", "<i8"),  # the camera's running number of this track, set at confirmation; -1 before
        ("born_us", "<i8"),  # event time of the first observation
        ("seen_us", "<i8"),  # event time of the last one
        ("kalman", "<f4", (20,)),  # cx, cy, w, h: position, velocity /s, variances pp, pv, vv; in frame heights
        ("box", "<f4", (4,)),  # last observed box, or the predicted one while unseen: x1 y1 x2 y2, ratios of the frame
        ("score", "<f4"),  # of the last observation
        ("label_weight", "<f4"),  # votes for `label` …
        ("rival_weight", "<f4"),  # … and for the strongest other
        ("hits", "<i4"),  # observations
        ("status", "u1"),
        ("seen", "u1"),  # observed in this frame
        ("label", "u1"),  # class after voting: index into the camera's own table of labels
        ("rival", "u1"),
        ("born_now", "u1"),  # confirmed in this frame
        ("first_label", "u1"),  # `label` when it was confirmed: what it is counted as
    ],
    align=True,
)
