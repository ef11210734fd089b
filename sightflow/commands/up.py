"""`sightflow up`: start the local stack and leave it running."""

from __future__ import annotations

from collections.abc import Sequence

from sightflow.commands.arguments import parser
from sightflow.progress import Progress
from sightflow.stack import Stack

_DESCRIPTION = """\
Start Kafka, InfluxDB and Flink on this machine and leave them running. What runs already is left alone: more TaskManagers
may join, other ports and fewer TaskManagers need `sightflow down` first. What a crash left behind is cleaned away. Ports
can be moved: SIGHTFLOW_KAFKA_PORT, SIGHTFLOW_INFLUX_PORT, SIGHTFLOW_FLINK_PORT, SIGHTFLOW_RTSP_PORT (and
SIGHTFLOW_KAFKA_CONTROLLER_PORT, SIGHTFLOW_FLINK_RPC_PORT). With INFLUXDB_V2_URL, _ORG, _BUCKET
and _TOKEN_FILE an InfluxDB of yours takes the place of the local one."""

_EXAMPLES = """\
  sightflow up
  sightflow up --taskmanagers 2
  sightflow up --only kafka influxd
  SIGHTFLOW_FLINK_PORT=8082 sightflow up
"""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("up", _DESCRIPTION, _EXAMPLES)
    made.add_argument("--taskmanagers", type=int, metavar="N", help="each has one slot (default: as many as run, or 1)")
    made.add_argument("--only", nargs="+", metavar="SERVICE", help="start only these")
    arguments = made.parse_args(argv)
    if arguments.taskmanagers is not None and arguments.taskmanagers < 1:
        made.error(f"--taskmanagers: at least 1, found {arguments.taskmanagers}")
    stack = Stack(arguments.run_dir, taskmanagers=arguments.taskmanagers)
    with Progress.to_stdout() as progress:
        stack.up(arguments.only, progress)
    print(_summary(stack))
    return 0


def _summary(stack: Stack) -> str:
    target = stack.influx
    return f"""
the stack runs:
  Kafka      {stack.kafka_bootstrap}
  InfluxDB   {target.url}  org {target.org}, bucket {target.bucket}, token in {target.token_file}
  Flink      {stack.flink_rest}
next:
  sightflow submit suite --settings sites/demo.yaml     run the suite
  source {stack.run_dir}/env.sh                use plain `flink` commands from this shell
  sightflow down                                        stop everything"""
