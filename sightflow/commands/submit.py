"""`sightflow submit`: run a job on the local Flink."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sightflow.commands.arguments import parser, stack
from sightflow.places import REPO_ROOT
from sightflow.progress import Progress

_DESCRIPTION = """\
Submit a job with `flink run -d` and wait until its tasks run. Python in a TaskManager keeps the modules that it once
imported, and a JVM its jars, so TaskManagers that have run a job, and whatever is older than our operator's jar, are
restarted first, unless another job runs."""

_EXAMPLES = """\
  sightflow submit
  sightflow submit suite --settings sites/demo.yaml
  sightflow submit suite --settings sites/demo.yaml --savepoint file:///…/savepoint-1a2b
  sightflow submit suite --settings sites/demo.yaml -- --exactly-once-topics alerts,events
the same by hand, on any cluster:
  flink run -d -py jobs/suite.py --settings sites/demo.yaml --bootstrap-servers HOST:PORT \\
    --influx-url URL --influx-org ORG --influx-bucket BUCKET --influx-token-file FILE
"""
_WITHOUT_SETTINGS = frozenset({"influx_writer"})


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("submit", _DESCRIPTION, _EXAMPLES)
    made.add_argument("job", nargs="?", default="suite", help="suite, camera_stage or influx_writer (default: suite)")
    made.add_argument(
        "--settings", nargs="+", type=Path, metavar="FILE", help="one YAML file per site (default: sites/demo.yaml)"
    )
    made.add_argument("--savepoint", metavar="PATH", help="go on from this savepoint or retained checkpoint")
    own, extra = _split(list(argv))
    arguments = made.parse_args(own)
    settings = arguments.settings or [REPO_ROOT / "sites" / "demo.yaml"]
    if arguments.job in _WITHOUT_SETTINGS:
        settings = []
    found = stack(arguments)
    with Progress.to_stdout() as progress:
        job_id = found.submit(arguments.job, settings, extra, arguments.savepoint, progress=progress)
    print(
        f"job {job_id} runs: {found.flink_rest}/#/job/running/{job_id}/overview\n"
        f"next:\n  sightflow status\n  sightflow stop {job_id}     stop it with a savepoint"
    )
    return 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return our own words and those after `--`, which go to the job."""
    if "--" not in words:
        return words, []
    cut = words.index("--")
    return words[:cut], words[cut + 1 :]
