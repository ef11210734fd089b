"""The command `sightflow-agent`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.plan import AgentPlan, PlanError, Wishes, default_models_dir, make_plan

EXIT_USAGE = 2
DEFAULT_METRICS_PORT = 9464


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="sightflow-agent", description="Detect objects in camera streams at the edge."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="capture, detect and send until told to stop")
    check = commands.add_parser("check", help="look at everything the agent needs, and say how to mend it")
    for command in (run, check):
        _add_common(command)
    run.add_argument("--metrics-port", type=int, default=DEFAULT_METRICS_PORT, metavar="PORT",
                     help="Prometheus metrics (default %(default)s; 0: none)")  # fmt: skip
    run.add_argument("--metrics-address", default="127.0.0.1", help="address of the metrics (default %(default)s)")
    run.add_argument("--file-pace", choices=("own", "fast"), default="own",
                     help="play file:// sources at their own rate, or as fast as they are taken")  # fmt: skip
    check.add_argument("--no-camera", action="store_true", help="do not connect to the cameras")
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--settings", type=Path, metavar="FILE", help="the site's settings (YAML)")
    command.add_argument(
        "--camera", action="append", default=[], metavar="ID|URL",
        help="only this camera of the settings; or, without settings, rtsp://… (repeatable)",
    )  # fmt: skip
    command.add_argument("--username", default="", help="name for --camera rtsp://…")
    command.add_argument("--password-file", type=Path, metavar="FILE", help="file with the password, first line")
    command.add_argument("--model", default="", metavar="NAME|FILE.onnx", help="detector instead of the settings'")
    command.add_argument("--score-min", type=float, help="least score that is sent")
    command.add_argument("--fps", type=float, help="frames a second that are looked at")
    command.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="Kafka")
    command.add_argument(
        "--properties-file", type=Path, metavar="FILE", help="librdkafka's name=value lines, secrets too"
    )
    command.add_argument("--models-dir", type=Path, help=f"converted models (default {default_models_dir()})")
    command.add_argument(
        "--state-dir", type=Path, help="boot number, spool, engines (default: the user's state folder)"
    )
    command.add_argument("--agent-id", metavar="NAME", help="name in heartbeats (default: from the host)")
    command.add_argument("--log-format", choices=("plain", "json"), default="plain")
    command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def _wishes(args: argparse.Namespace) -> Wishes:
    return Wishes(
        settings=args.settings, cameras=args.camera, username=args.username, password_file=args.password_file,
        model=args.model, score_min=args.score_min, fps=args.fps, bootstrap_servers=args.bootstrap_servers,
        properties_file=args.properties_file, models_dir=args.models_dir, state_dir=args.state_dir,
        agent=args.agent_id, is_fast=getattr(args, "file_pace", "own") == "fast",
        metrics_address=getattr(args, "metrics_address", ""), metrics_port=getattr(args, "metrics_port", 0),
    )  # fmt: skip


def _secrets(plan: AgentPlan) -> tuple[str, ...]:
    cameras = [secret for _, source in plan.cameras for secret in source.secrets]
    uplink = [value for name, value in plan.properties.items() if "password" in name or "secret" in name]
    return (*cameras, *uplink)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 check failed, 2 wrong settings, 70 broken."""
    args = build_parser().parse_args(argv)
    try:
        plan = make_plan(_wishes(args))
    except PlanError as e:
        print(f"sightflow-agent: {e}", file=sys.stderr)
        return EXIT_USAGE
    from edge_agent.log_format import set_up_logging

    level = "error" if args.command == "check" and args.log_level == "info" else args.log_level
    set_up_logging(args.log_format, level, _secrets(plan))
    if args.command == "check":
        from edge_agent.check import check_agent

        return check_agent(plan, with_cameras=not args.no_camera)
    return _run(plan)


def _run(plan: AgentPlan) -> int:
    from edge_agent.agent import run_agent
    from edge_agent.delivery import UplinkError
    from edge_agent.detector import AcceleratorUnavailableError, ModelError
    from edge_agent.spool import SpoolError

    try:
        status = run_agent(plan)
    except (ModelError, AcceleratorUnavailableError, UplinkError, SpoolError, OSError) as e:
        logging.getLogger(__name__).error("%s", e)
        return EXIT_USAGE
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # daemon threads may sit in librdkafka or in a file system that hangs


if __name__ == "__main__":
    sys.exit(main())
