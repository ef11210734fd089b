"""Scores sequences with TrackEval. Runs as a process of its own, in the environment that has TrackEval and SciPy:

    python scorer.py request.npz answer.json

The request holds for each sequence i: `truth_i` (frame, id, left, top, width, height, considered, role), `results_i`
(frame, id, left, top, width, height, score), `regions_i` (frame, left, top, width, height) and `min_height_i`. A row of
truth has a role: SCORED, or NEUTRAL: a result that is matched to it counts neither as right nor as wrong.

Metrics: HOTA (Luiten et al., IJCV 2021), CLEAR (Bernardin and Stiefelhagen, 2008), Identity (Ristani et al., 2016), all from
TrackEval (J. Luiten, A. Hoffhues, MIT licence). The preparation follows TrackEval's `MotChallenge2DBox` and `Kitti2DBox`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from trackeval import metrics

NEUTRAL, SCORED, OTHER = 0, 1, 2
THRESHOLD = 0.5  # IoU from which CLEAR, Identity and the preparation take two boxes for one object
REGION_RATIO = 0.5  # part of a result that must lie in a region for it not to count (KITTI)
_EPS = np.finfo(float).eps
_MEANS = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")
_CURVES = ("HOTA", "DetA", "AssA")
_NUMBERS = ("MOTA", "MOTP", "IDSW", "Frag", "MT", "PT", "ML", "CLR_TP", "CLR_FP", "CLR_FN", "CLR_Re", "CLR_Pr")
_IDENTITY = ("IDF1", "IDP", "IDR", "IDTP", "IDFP", "IDFN")


def ious(a: Any, b: Any) -> Any:
    """Return the M×N intersections over unions of boxes M×4 and N×4 (left, top, width, height)."""
    inter = _intersections(a, b)
    union = (a[:, 2] * a[:, 3])[:, None] + (b[:, 2] * b[:, 3])[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _intersections(a: Any, b: Any) -> Any:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    return np.prod(np.maximum(high - low, 0.0), axis=2)


def prepare(truth: Any, results: Any, regions: Any, min_height: float) -> dict[str, Any]:
    """Return TrackEval's input for one sequence, and beside it the frame numbers."""
    frames = np.unique(np.concatenate([truth[:, 0], results[:, 0]]))
    data: dict[str, Any] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": [], "frames": frames.tolist()}
    for frame in frames:
        t, r = truth[truth[:, 0] == frame], results[results[:, 0] == frame]
        similarity = ious(t[:, 2:6], r[:, 2:6])
        matched_t, matched_r = _match(similarity)
        drop = np.zeros(len(r), bool)
        drop[matched_r[t[matched_t, 7] == NEUTRAL]] = True
        alone = np.ones(len(r), bool)
        alone[matched_r] = False
        drop |= alone & (r[:, 5] <= min_height + _EPS)
        here = regions[regions[:, 0] == frame, 1:]
        if len(here) and len(r):
            inside = _intersections(here, r[:, 2:6]) / np.maximum(r[:, 4] * r[:, 5], _EPS)
            drop |= alone & (inside.max(axis=0) > REGION_RATIO + _EPS)
        kept_t = (t[:, 6] != 0) & (t[:, 7] == SCORED)
        data["gt_ids"].append(t[kept_t, 1].astype(int))
        data["tracker_ids"].append(r[~drop, 1].astype(int))
        data["similarity_scores"].append(similarity[kept_t][:, ~drop])
    for who, name in (("gt", "gt_ids"), ("tracker", "tracker_ids")):
        known, rows = np.unique(np.concatenate([*data[name], np.zeros(0, int)]), return_inverse=True)
        data[f"{name}_known"] = known
        data[f"num_{who}_ids"], data[f"num_{who}_dets"] = len(known), len(rows)
        data[name] = [np.searchsorted(known, ids) for ids in data[name]]
    data["num_timesteps"] = len(frames)
    return data


def _match(similarity: Any) -> tuple[Any, Any]:
    """Return rows and columns of the best assignment of pairs that overlap by the threshold."""
    scores = np.where(similarity < THRESHOLD - _EPS, 0.0, similarity)
    rows, columns = linear_sum_assignment(-scores)
    real = scores[rows, columns] > _EPS
    return rows[real], columns[real]


def course(data: dict[str, Any]) -> dict[str, Any]:
    """Return what happened when, matched as CLEAR does: counts per frame, and whose id each object had.

    The sums over frames are those of CLEAR.
    """
    last: dict[int, int] = {}  # truth → result it was last matched to
    before: dict[int, int] = {}  # … in the frame before
    frames: list[list[int]] = []
    lives: dict[int, list[list[int]]] = {}
    for n, frame in enumerate(data["frames"]):
        t, r, similarity = data["gt_ids"][n], data["tracker_ids"][n], data["similarity_scores"][n]
        keeps = np.array([[before.get(int(i)) == int(j) for j in r] for i in t], float).reshape(len(t), len(r))
        scores = np.where(similarity < THRESHOLD - _EPS, 0.0, 1000.0 * keeps + similarity)
        rows, columns = linear_sum_assignment(-scores)
        real = scores[rows, columns] > _EPS
        pairs = {int(t[i]): int(r[j]) for i, j in zip(rows[real], columns[real], strict=True)}
        switches = sum(i in last and last[i] != j for i, j in pairs.items())
        frames.append([int(frame), len(pairs), len(t) - len(pairs), len(r) - len(pairs), switches])
        for i in (int(i) for i in t):
            _extend(lives.setdefault(i, []), int(frame), pairs.get(i, -1))
        last.update(pairs)
        before = pairs
    known_t, known_r = data["gt_ids_known"], data["tracker_ids_known"]
    named = [
        {"id": int(known_t[i]), "spans": [[a, b, int(known_r[j]) if j >= 0 else -1] for a, b, j in spans]}
        for i, spans in sorted(lives.items())
    ]
    return {"frames": frames, "lives": named}


def _extend(spans: list[list[int]], frame: int, who: int) -> None:
    """Append a frame to a life: spans of (first frame, last frame, id that it had, −1 for none)."""
    if spans and spans[-1][2] == who and frame - spans[-1][1] <= 1:
        spans[-1][1] = frame
    else:
        spans.append([frame, frame, who])


def score(sequences: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Score each sequence and all of them together."""
    judges = {
        "HOTA": metrics.HOTA(),
        "CLEAR": metrics.CLEAR({"THRESHOLD": THRESHOLD, "PRINT_CONFIG": False}),
        "Identity": metrics.Identity({"THRESHOLD": THRESHOLD, "PRINT_CONFIG": False}),
    }
    raw = {
        judge: {name: metric.eval_sequence(data) for name, data in sequences.items()}
        for judge, metric in judges.items()
    }
    answer: dict[str, Any] = {"sequences": {}}
    for name, data in sequences.items():
        figures = _figures({judge: raw[judge][name] for judge in judges})
        figures |= {"GT_Dets": data["num_gt_dets"], "GT_IDs": data["num_gt_ids"], "IDs": data["num_tracker_ids"]}
        answer["sequences"][name] = {"figures": figures, **course(data)}
    combined = _figures({judge: metric.combine_sequences(raw[judge]) for judge, metric in judges.items()})
    for count in ("GT_Dets", "GT_IDs", "IDs"):
        combined[count] = sum(s["figures"][count] for s in answer["sequences"].values())
    answer["combined"] = combined
    return answer


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {name: float(np.mean(found["HOTA"][name])) for name in _MEANS}
    figures["curves"] = {name: [float(v) for v in found["HOTA"][name]] for name in _CURVES}
    figures |= {name: float(found["CLEAR"][name]) for name in _NUMBERS}
    return figures | {name: float(found["Identity"][name]) for name in _IDENTITY}


def main(request: Path, answer: Path) -> None:
    """Read the request, score, write the answer."""
    with np.load(request, allow_pickle=False) as arrays:
        names = [str(name) for name in arrays["names"]]
        sequences = {
            name: prepare(
                arrays[f"truth_{i}"], arrays[f"results_{i}"], arrays[f"regions_{i}"], float(arrays[f"min_height_{i}"])
            )
            for i, name in enumerate(names)
        }
    answer.write_text(json.dumps(score(sequences)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
