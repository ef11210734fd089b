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
        ("ground", "<f4", (14,)),  # x y vx vy (m, m/s) and their covariance, upper triangle by rows; with a pose only
        ("observed", "<f4", (4,)),  # last observation as it was reported: cx, cy, w, h in frame heights
        ("box", "<f4", (4,)),  # the same clipped to the frame, or the prediction while unseen: x1 y1 x2 y2, ratios
        ("score", "<f4"),  # of the last observation
        ("score_sum", "<f4"),  # of all observations while tentative, then 0
        ("label_weight", "<f4"),  # votes for `label` …
        ("rival_weight", "<f4"),  # … and for the strongest other
        ("hits", "<i4"),  # observations
        ("status", "u1"),
        ("seen", "u1"),  # observed in this frame
        ("label", "u1"),  # class after voting: index into the camera's own table of labels
        ("rival", "u1"),
        ("born_now", "u1"),  # confirmed in this frame
        ("first_label", "u1"),  # `label` when it was confirmed: what it is counted as
        ("has_embedding", "u1"),  # its row of the gallery is set
        ("has_ground", "u1"),  # `ground` is set
    ],
    align=True,
)

SLOTS, NEXT_ORDINAL, REFUSED_BIRTHS, BAD_DETECTIONS, SURPLUS_DETECTIONS, REFUSED_FRAMES = range(6)
HEADER_SIZE = 6
"""Indices of the header (int64): slots in use (highest + 1), next ordinal, then counts since the first frame."""

SCORE_SQUARES, SCORE_SUM, NOISE = 0, 1, 2
STREAM_SIZE = 6
"""Indices of what the tracker has learnt of its stream (float64): fading sums of score² and score over time, and from
NOISE on how much livelier than `TrackerConfig` says cx, cy, w and h are (ratios; 0 before the first frame)."""
