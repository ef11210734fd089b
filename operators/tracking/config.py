"""Settings of the tracker. One set of defaults serves every scene; what differs between scenes is learnt from the stream."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrackerConfig:
    """Times in seconds of event time, lengths in heights of the object's box, scores as ratios of the stream's own.

    The stream's own score is the self-weighted mean of what its detector reports (fading, `score_memory_s`), never taken
    for less than `score_floor`. Axes are in the order centre x, centre y, width, height.
    Defaults: found on the data and by the method of `docs/adr/0007-tracking.md`.
    """

    memory_s: float = 3.0  # an unseen track is kept this long: more bridges longer occlusions and confuses more objects
    gap_s: float = 3.0  # who was seen in the last frame lives on over a gap between frames of up to this
    capacity: int = 512  # objects per camera; further births are refused and counted

    # What of the detector is believed.
    score_high: float = 0.5  # detections above are matched first, with every track …
    score_low: float = 0.07  # … those above this only with tracks seen in the last `weak_age_s`, below: not at all
    score_new: float = 0.45  # unmatched detections above become tentative tracks
    weak_age_s: float = 0.5
    score_memory_s: float = 10.0
    score_floor: float = (
        0.8  # a detector that is seldom sure is believed a little sooner, one that sees only ghosts is not
    )
    score_expected: float = 0.85  # before the stream has told
    double_iou: float = 0.7  # of two detections that overlap more, the weaker is a double and left out

    # Probation: two observations, `probation_s`, and up to `doubt_s` more the weaker the scores are.
    probation_s: float = 0.03
    doubt_s: float = 0.6
    tentative_gap_s: float = 0.15  # a tentative track unseen for longer is dropped

    # Motion: white acceleration noise per axis, heights/s^1.5; drift of the position beside it, heights/s^0.5.
    agility_x: float = 0.3
    agility_y: float = 0.1
    agility_w: float = 0.05
    agility_h: float = 0.05
    drift: float = 0.02
    # Standard deviation of velocity at birth, heights/s.
    start_x: float = 2.0
    start_y: float = 0.2
    start_w: float = 0.1
    start_h: float = 0.1
    start_noise: float = 0.5  # share of the learnt liveliness that a newborn's velocity gets
    # Detector's error per axis, heights; weak scores widen it by up to 1 + `error_doubt`.
    error_x: float = 0.03
    error_y: float = 0.03
    error_w: float = 0.06
    error_h: float = 0.03
    error_doubt: float = 0.5
    # How fast and how far the liveliness of the stream is learnt (moving cameras, cars), and between what bounds.
    noise_rate: float = 1.0
    noise_min: float = 0.5
    noise_max: float = 40.0
    surprise_max: float = 6.0  # of one observation, in units of its expected variance
    # An unseen object's velocity fades with 1/(1 + rate·Δt), its change of size faster.
    fade_velocity: float = 0.5
    fade_size: float = 3.0

    # Similarity, 0 to 1: weighted mean of buffered IoU, closeness in the plane and likeness of shape.
    weight_iou: float = 0.4
    weight_distance: float = 0.4
    weight_shape: float = 0.2
    buffer: float = 0.3  # boxes grow by this ratio of their size on each side
    distance_height: float = 0.5  # weight of the height's squared Mahalanobis distance beside those of x and y
    distance_half: float = 4.0  # squared distance at which closeness has halved
    distance_max: float = 16.0  # beyond this, and without overlap, a pair is impossible
    height_ratio_max: float = 2.0
    score_share: float = 0.1  # how much of the similarity hangs on the detection's score
    cost_unseen: float = 0.15  # per second unseen
    cost_tentative: float = 0.1
    cost_label: float = 0.1  # other class than the track's
    floor_high: float = 0.28  # pairs below are not matched, in the first round …
    floor_weak: float = 0.45  # … and in the second
    weight_embedding: float = 0.6  # cosine similarity less `embedding_even`, times this, is added
    embedding_even: float = 0.5

    # On the ground, with a camera's pose: acceleration noise in m/s^1.5, deviation of velocity at birth in m/s, and the
    # foot's error in heights of the box (that of the pose included).
    ground_agility_mps: float = 1.0
    ground_start_mps: float = 1.5
    ground_error_x: float = 0.03
    ground_error_y: float = 0.03

    publish_smooth: float = 0.3  # share of the filter in a published box; the rest is the observation

    def vector(self) -> npt.NDArray[np.float64]:
        """Return all fields in order, as `kernel` takes them."""
        return np.array([float(getattr(self, f.name)) for f in fields(self)])


def index(name: str) -> int:
    """Return where a field stands in `TrackerConfig.vector`. Raises ValueError."""
    return [f.name for f in fields(TrackerConfig)].index(name)


def layout() -> int:
    """Return a number that changes with the order of the fields."""
    return zlib.crc32(",".join(f.name for f in fields(TrackerConfig)).encode())


def tracker_config(name: str, memory_s: float) -> TrackerConfig:
    """Return the settings of a tracker by its name in the site file. Raises ValueError."""
    if name == "default":
        return TrackerConfig(memory_s=memory_s)
    if name == "sort":
        return SORT
    raise ValueError(f"expected the tracker `default` or `sort`, got {name!r}")


SORT = TrackerConfig(
    memory_s=0.1, gap_s=3.0, tentative_gap_s=0.05,
    score_floor=1.0, score_high=0.5, score_low=0.5, score_new=0.5, double_iou=1.0, doubt_s=0.0, probation_s=0.06,
    weight_iou=1.0, weight_distance=0.0, weight_shape=0.0, buffer=0.0, floor_high=0.3, distance_height=0.0,
    distance_max=0.0, height_ratio_max=100.0, score_share=0.0, cost_unseen=0.0, cost_tentative=0.0, cost_label=0.0,
    noise_rate=0.0, error_doubt=0.0, weight_embedding=0.0, publish_smooth=1.0,
)  # fmt: skip
"""SORT (Bewley et al., ICIP 2016) as the kernel does it: one round by plain overlap of at least 0.3 among detections above
0.5, hardly a memory, fixed noise, the filter's box published. The baseline that the default is compared with."""
