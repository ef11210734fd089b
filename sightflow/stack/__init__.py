"""A local stack of real servers: Kafka, InfluxDB, Flink, an RTSP camera and an agent, supervised in one run folder."""

from sightflow.stack.influx import InfluxTarget
from sightflow.stack.ports import Ports
from sightflow.stack.services import AGENT, INFLUXD, JOBMANAGER, KAFKA, RTSP_CAMERA, TASKMANAGER
from sightflow.stack.stack import ServiceStatus, Stack
from sightflow.stack.supervisor import Program

__all__ = [
    "AGENT",
    "INFLUXD",
    "JOBMANAGER",
    "KAFKA",
    "RTSP_CAMERA",
    "TASKMANAGER",
    "InfluxTarget",
    "Ports",
    "Program",
    "ServiceStatus",
    "Stack",
]
