"""`python -m bench [NAME] [options]`: one of them, or all of them when none is named; each has --help."""

from __future__ import annotations

import sys

from bench import day, latency, rules, stage, throughput, tracking

_BENCHMARKS = {
    "stage": stage.main,
    "tracking": tracking.main,
    "rules": rules.main,
    "day": day.main,
    "throughput": throughput.main,
    "latency": latency.main,
}


def main(argv: list[str]) -> int:
    """Run the benchmarks that are named, with the options behind the name."""
    if not argv:
        return max(run([]) for run in _BENCHMARKS.values())
    if argv[0] not in _BENCHMARKS:
        print(f"{__doc__}\nexpected one of {', '.join(_BENCHMARKS)}, got {argv[0]!r}", file=sys.stderr)
        return 2
    return _BENCHMARKS[argv[0]](argv[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
