"""`sightflow evaluate`: figures that can be worked out by hand, what is left out of a score, and what is refused."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from sightflow import cli
from sightflow.bootstrap.graph import is_done
from sightflow.bootstrap.steps import evaluate_step
from sightflow.evaluate import sequences
from sightflow.evaluate.command import score
from sightflow.places import Local

Box = tuple[float, float, float, float]
FRAMES = 10
LEFT: Box = (100, 100, 40, 100)
RIGHT: Box = (400, 100, 40, 100)


@pytest.fixture(scope="module")
def python() -> Path:
    """The scorer's Python; tests install nothing."""
    local = Local.find()
    if not is_done(evaluate_step(local), local):
        pytest.skip("needs the scorer's environment: make setup")
    return local.venv_evaluate / "bin" / "python"


def row(frame: int, who: int, box: Box, *more: float) -> str:
    return ",".join(f"{v:g}" for v in (frame, who, *box, *more)) + "\n"


def truth_text(kind: int = 1, considered: int = 1) -> str:
    """Two people who stand still for ten frames."""
    return "".join(
        row(n, i, box, considered, kind, 1) for n in range(1, FRAMES + 1) for i, box in ((1, LEFT), (2, RIGHT))
    )


def results_text(swap_at: int = 99, *, skip: int = 0, ghost: Box | None = None) -> str:
    """Their tracks: ids change sides at a frame; a frame without anybody; something that is not there."""
    rows = []
    for n in range(1, FRAMES + 1):
        first, second = (7, 8) if n < swap_at else (8, 7)
        if n != skip:
            rows += [row(n, first, LEFT, 0.9, -1, -1, -1), row(n, second, RIGHT, 0.9, -1, -1, -1)]
        if ghost:
            rows.append(row(n, 9, ghost, 0.9, -1, -1, -1))
    return "".join(rows)


def scored(
    folder: Path, python: Path, truth: str, results: str, preprocess: str = "auto", truth_format: str = "mot",
    label: str = "car", span: tuple[int, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    (folder / "gt.txt").write_text(truth)
    (folder / "seq.txt").write_text(results)
    loaded = sequences.load("seq", folder / "gt.txt", folder / "seq.txt", truth_format, preprocess, label, span)
    found: dict[str, Any] = score([loaded], python)["sequences"]["seq"]
    return found


def test_perfect_results_have_every_figure_at_its_best(tmp_path: Path, python: Path) -> None:
    figures = scored(tmp_path, python, truth_text(), results_text())["figures"]
    for name in ("HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA", "MOTP"):
        assert figures[name] == pytest.approx(1.0), name
    assert (figures["IDSW"], figures["CLR_FP"], figures["CLR_FN"], figures["MT"]) == (0, 0, 0, 2)


def test_two_ids_that_change_places_half_way_cost_what_the_papers_say(tmp_path: Path, python: Path) -> None:
    figures = scored(tmp_path, python, truth_text(), results_text(swap_at=6))["figures"]
    assert figures["IDSW"] == 2
    assert figures["MOTA"] == pytest.approx(1 - 2 / 20)
    assert figures["IDF1"] == pytest.approx(0.5)
    # Each pair is right in 5 of 10 + 10 − 5 boxes.
    assert figures["AssA"] == pytest.approx(5 / 15)
    assert figures["HOTA"] == pytest.approx(math.sqrt(5 / 15))


def test_misses_and_false_positives_are_counted(tmp_path: Path, python: Path) -> None:
    figures = scored(tmp_path, python, truth_text(), results_text(skip=4, ghost=(700, 0, 30, 60)))["figures"]
    assert (figures["CLR_FN"], figures["CLR_FP"]) == (2, 10)
    assert figures["MOTA"] == pytest.approx(1 - 12 / 20)
    assert figures["DetA"] == pytest.approx(18 / 30)


def test_without_results_nothing_is_found(tmp_path: Path, python: Path) -> None:
    figures = scored(tmp_path, python, truth_text(), "")["figures"]
    assert (figures["HOTA"], figures["IDF1"], figures["CLR_FN"]) == (0, 0, 20)


@pytest.mark.parametrize(("kind", "false_positives"), [(8, 0), (7, 0), (12, 0), (9, 10)])
def test_a_result_on_a_distractor_does_not_count(kind: int, false_positives: int, tmp_path: Path, python: Path) -> None:
    thing: Box = (700, 0, 30, 60)
    truth = truth_text() + "".join(row(n, 50, thing, 0, kind, 1) for n in range(1, FRAMES + 1))
    results = results_text(ghost=thing)
    found = scored(tmp_path, python, truth, results)["figures"]
    assert (found["CLR_FP"], found["GT_IDs"]) == (false_positives, 2)
    assert scored(tmp_path, python, truth, results, "none")["figures"]["CLR_FP"] == 10


def test_truth_that_is_not_considered_is_neither_missed_nor_matched(tmp_path: Path, python: Path) -> None:
    truth = truth_text() + "".join(row(n, 50, (700, 0, 30, 60), 0, 1, 1) for n in range(1, FRAMES + 1))
    figures = scored(tmp_path, python, truth, results_text())["figures"]
    assert (figures["CLR_FN"], figures["GT_Dets"]) == (0, 20)


def test_coordinates_in_the_class_column_are_not_taken_for_classes(tmp_path: Path, python: Path) -> None:
    truth = "".join(row(n, 1, LEFT, 1, 4.48, 5.5, 0) for n in range(1, FRAMES + 1))  # as MOT15 has it
    results = "".join(row(n, 1, LEFT, 1, -1, -1, -1) for n in range(1, FRAMES + 1))
    assert scored(tmp_path, python, truth, results)["figures"]["HOTA"] == pytest.approx(1.0)


def test_only_the_frames_asked_for_count(tmp_path: Path, python: Path) -> None:
    figures = scored(tmp_path, python, truth_text(), results_text(swap_at=6), span=(6, 10))["figures"]
    assert (figures["GT_Dets"], figures["IDSW"]) == (10, 0)
    assert figures["HOTA"] == pytest.approx(1.0)


def test_kitti_labels_leave_out_regions_vans_and_what_is_small(tmp_path: Path, python: Path) -> None:
    def label(frame: int, who: int, kind: str, box: Box) -> str:
        left, top, width, height = box
        return f"{frame} {who} {kind} 0 0 0 {left} {top} {left + width} {top + height} 1 1 1 1 1 1 0\n"

    region, van, small = (600.0, 0.0, 200.0, 200.0), (300.0, 200.0, 60.0, 60.0), (500.0, 300.0, 20.0, 20.0)
    truth = "".join(
        label(n, 1, "Car", LEFT) + label(n, 2, "Van", van) + label(n, -1, "DontCare", region) for n in range(FRAMES)
    )
    in_region: Box = (620.0, 20.0, 40.0, 40.0)
    results = "".join(
        row(n, i, box, 1, -1, -1, -1)
        for n in range(1, FRAMES + 1)
        for i, box in ((1, LEFT), (2, van), (3, in_region), (4, small))
    )
    figures = scored(tmp_path, python, truth, results, truth_format="kitti")["figures"]
    assert (figures["CLR_FP"], figures["CLR_FN"], figures["GT_IDs"]) == (0, 0, 1)
    bare = scored(tmp_path, python, truth, results, "none", "kitti")["figures"]
    assert bare["CLR_FP"] == 30


def test_the_course_over_time_sums_up_to_the_figures(tmp_path: Path, python: Path) -> None:
    rng = random.Random(5)
    truth, results = [], []
    for n in range(1, 61):
        for i in range(6):
            x, y = 30 * i + 3 * n, 40 + 12 * i
            truth.append(row(n, i + 1, (x, y, 40, 90), 1, 1, 1))
            if rng.random() < 0.85:
                who = i + 1 if rng.random() < 0.9 else 20 + i
                results.append(row(n, who, (x + rng.gauss(0, 6), y + rng.gauss(0, 9), 40, 90), 1, -1, -1, -1))
    found = scored(tmp_path, python, "".join(truth), "".join(results))
    sums = [sum(frame[k] for frame in found["frames"]) for k in range(1, 5)]
    figures = found["figures"]
    assert sums == [figures["CLR_TP"], figures["CLR_FN"], figures["CLR_FP"], figures["IDSW"]]
    assert figures["IDSW"] > 5
    assert sum(b - a + 1 for life in found["lives"] for a, b, _ in life["spans"]) == figures["GT_Dets"]


def test_a_folder_is_scored_by_sequence_and_the_page_fetches_nothing(
    tmp_path: Path, python: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, results = tmp_path / "truth", tmp_path / "results"
    for folder in (truth / "A" / "gt", truth / "B<i>", results):
        folder.mkdir(parents=True)
    (truth / "A" / "gt" / "gt.txt").write_text(truth_text())
    (truth / "B<i>" / "gt.txt").write_text(truth_text())
    (results / "A.txt").write_text(results_text())
    (results / "B<i>.txt").write_text(results_text(swap_at=6))
    (results / "extra.txt").write_text("")
    page = tmp_path / "page.html"
    assert cli.main(["evaluate", "--truth", str(truth), "--results", str(results), "--html", str(page)]) == 0
    said = capsys.readouterr()
    lines = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()}
    assert lines["A"][0] == "100.0"
    assert lines["B<i>"][0] == "57.7"
    assert lines["all"][lines["sequence"].index("IDSW")] == "2"
    assert "left out: extra" in said.err
    html = page.read_text()
    assert "B&lt;i&gt;" in html and "<i>.txt" not in html and "B<i>" not in html
    assert "<script" not in html and "http:" not in html and "https:" not in html
    assert html.count("<svg") == 6


@pytest.mark.parametrize(
    ("truth", "results", "said"),
    [
        (
            truth_text(),
            results_text() + row(3, 7, (0, 0, 9, 9), 1),
            "seq.txt, frame 3: expected each id once, got id 7 twice",
        ),
        (truth_text() + row(3, 1, (0, 0, 9, 9), 1, 1, 1), results_text(), "gt.txt, frame 3: expected each id once"),
        (truth_text(), "1,7,a,2,3,4,1\n", "seq.txt, line 1: expected at least 7 numbers"),
        (truth_text(), "1,7,nan,2,3,4,1\n", "seq.txt, line 1: expected at least 7 numbers"),
        (truth_text(), "0,7,1,2,3,4,1\n", "seq.txt, line 1: expected a frame from 1"),
        ("1,1,2,3\n", results_text(), "gt.txt, line 1: expected at least 7 numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_place(
    truth: str, results: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gt.txt").write_text(truth)
    (tmp_path / "seq.txt").write_text(results)
    assert cli.main(["evaluate", "--truth", str(tmp_path / "gt.txt"), "--results", str(tmp_path / "seq.txt")]) == 1
    assert said in capsys.readouterr().err


def test_a_sequence_without_results_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("truth", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "truth" / "A.txt").write_text(truth_text())
    words = ["evaluate", "--truth", str(tmp_path / "truth"), "--results", str(tmp_path / "results")]
    assert cli.main(words) == 1
    assert "expected A.txt" in capsys.readouterr().err
    assert cli.main([*words[:-1], str(tmp_path / "truth" / "A.txt")]) == 1
    assert "expected two of a kind" in capsys.readouterr().err
    assert cli.main([*words, "--frames", "9-3"]) == 1
    assert "--frames: expected FIRST-LAST" in capsys.readouterr().err


def test_ground_truth_as_results_is_perfect_on_real_data(shared_data: Path, tmp_path: Path, python: Path) -> None:
    truth = shared_data / "mot" / "TUD-Stadtmitte" / "gt.txt.gz"
    loaded = sequences.load("tud", truth, truth, "mot", "auto", "", None)
    assert score([loaded], python)["combined"]["HOTA"] == pytest.approx(1.0)
