"""The demo's last screen: what came out, and where each figure was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sightflow.demo_run import DemoDone
from sightflow.report.drawing import clock
from sightflow.report.outcome import SOURCE_LOST, Incident, Latency, Occupancy, Outcome, level_at

SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 48


def summary(done: DemoDone, problems: list[str], took_s: float) -> str:
    """Return the text."""
    o = done.outcome
    lines = ["", f"What came out of {o.camera} in {o.duration_s:.0f} s of video", ""]
    lines += ["queried back from InfluxDB", *_from_influx(o), ""]
    lines += ["read back from Kafka", *_from_kafka(o), ""]
    lines += ["the way of the frames", *_way(o), ""]
    lines += [f"report   {done.report}", f"         {done.report.as_uri()}", ""]
    if problems:
        lines += ["NOT AS IT SHOULD BE"] + [f"  !!  {problem}" for problem in problems]
        lines += [f"      logs of all parts: {done.logs}"]
    else:
        lines += [
            f"all {o.frames.track_count} frames came through once each; InfluxDB and Kafka agree ({took_s:.0f} s in all)"
        ]
    return "\n".join(lines + ["", "next"] + [f"  {step}" for step in done.next_steps])


def _line(name: str, text: str) -> str:
    return f"  {name:<20} {text}"


def _from_influx(o: Outcome) -> list[str]:
    lines = [
        _line(f"crossings, {c.tripwire}", f"{c.left_count} to the left, {c.right_count} to the right ({c.label})")
        for c in o.crossings
    ]
    lines += [
        _line(
            f"visits, {v.zone}",
            f"{v.count} ended ({v.label}; {v.born_inside_count} first seen inside), mean dwell {v.mean_dwell_s:.1f} s,"
            f" longest {v.max_dwell_s:.1f} s",
        )
        for v in o.visits
    ]
    means = " ".join(f"{w.occupancy_mean:.1f}" for w in o.windows)
    most = max((w.occupancy_max for w in o.windows), default=0)
    lines.append(_line("occupancy", f"mean of each {o.window_s:g} s window: {means or '–'}; most at once {most}"))
    return lines


def _from_kafka(o: Outcome) -> list[str]:
    objects = ", ".join(f"{n} {label}" for label, n in o.objects.items())
    lines = [_line("objects seen", objects or "none")]
    for curve in o.occupancy:
        step_s = o.duration_s / _SPARK_WIDTH
        lines.append(
            _line("occupancy curve", f"{sparkline(curve, o.since_us, o.until_us)}  one mark is {step_s:.1f} s")
        )
    lines.append(_line("alerts", _counts(i.rule for i in o.incidents if i.rule_type != SOURCE_LOST)))
    return lines + [f"    {_incident(i, o.timezone)}" for i in o.incidents]


def _counts(names: Iterable[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in Counter(names).items()) or "none"


def _incident(i: Incident, timezone: str) -> str:
    opened = clock(i.open_us, timezone) if i.open_us else "earlier "
    end = f"; closed after {(i.close_us - i.start_us) / 1e6:.1f} s: {i.close_reason}" if i.close_us else ""
    expected = " (as it must: the demo stopped the agent)" if i.rule_type == SOURCE_LOST else ""
    return f"{opened}  {i.rule:<12} {i.reason}{end}{expected}"


def sparkline(curve: Occupancy, since_us: int, until_us: int, width: int = _SPARK_WIDTH) -> str:
    """Return the curve as a row of blocks: each shows the number in the middle of its stretch; blank is nobody."""
    if until_us <= since_us:
        return ""
    step = (until_us - since_us) / width
    levels = [level_at(curve, int(since_us + (i + 0.5) * step)) for i in range(width)]
    top = max([*levels, 1])
    return "".join(" " if not n else SPARKS[round((n - 1) / max(1, top - 1) * (len(SPARKS) - 1))] for n in levels)


def _way(o: Outcome) -> list[str]:
    f = o.frames
    dropped = _counts(name for name, n in f.dropped.items() for _ in range(n))
    lines = []
    if f.sent_count is not None:
        lines.append(
            _line(
                "agent",
                f"{f.captured_count} captured, {f.sent_count} sent ({f.skipped_count} sampled out, dropped: {dropped})",
            )
        )
    lines += [
        _line(
            "Kafka", f"{f.detection_count} distinct on detections, {f.track_count} on tracks, at {f.fps:.1f} frames/s"
        ),
        _line("lost end to end", f"{f.lost_count}"),
        _line("doubled", f"{f.duplicate_count} on tracks ({f.resent_count} sent again by the agent and removed)"),
        _line("detection → alert", _latency(o.detection_to_alert, "alert transitions that a frame caused")),
        _line("detection → track", _latency(o.detection_to_track, "frames")),
        _line("capture → track", _latency(o.capture_to_track, "frames; decoding and detector included")),
    ]
    return lines


def _latency(x: Latency, of: str) -> str:
    return f"p50 {x.p50_ms:.0f} ms, p99 {x.p99_ms:.0f} ms, over {x.count} {of}" if x.count else "none measured"
