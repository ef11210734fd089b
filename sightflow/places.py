"""Where everything that is installed, built or run lies: one folder, `.local` in the checkout."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Local:
    """The folder for everything that git does not hold.

    Args:
        root: absolute path; `$SIGHTFLOW_LOCAL`, else `.local` in the checkout.
    """

    root: Path

    @staticmethod
    def find() -> Local:
        """Return the folder that the environment names, or the default one."""
        named = os.environ.get("SIGHTFLOW_LOCAL")
        return Local(Path(named).expanduser().absolute() if named else REPO_ROOT / ".local")

    @property
    def venv(self) -> Path:
        """Python 3.11 with PyFlink: jobs, command line, tests."""
        return self.root / "venv"

    @property
    def venv_agent(self) -> Path:
        """Debian's Python with gi: the edge agent and the RTSP camera."""
        return self.root / "venv-agent"

    @property
    def venv_evaluate(self) -> Path:
        """TrackEval and SciPy: the scorer of `sightflow evaluate`."""
        return self.root / "venv-evaluate"

    @property
    def bench_venv(self) -> Path:
        """The public trackers that the benchmark measures beside ours."""
        return self.root / "bench-venv"

    @property
    def kafka_lib(self) -> Path:
        """The broker's jars."""
        return self.root / "kafka" / "lib"

    @property
    def connector_lib(self) -> Path:
        """Jars that are added to Flink's own."""
        return self.root / "kafka" / "connector"

    @property
    def flink(self) -> Path:
        """FLINK_HOME."""
        return self.root / "flink"

    @property
    def operator_jar(self) -> Path:
        """Our operator in Java, on Flink's class path."""
        return self.flink / "lib" / "sightflow-flink.jar"

    @property
    def influxd(self) -> Path:
        """The InfluxDB server that the set-up builds."""
        return self.root / "bin" / "influxd"

    @property
    def footage(self) -> Path:
        """The clip that the local RTSP camera plays."""
        return self.root / "footage" / "vtest.mp4"

    @property
    def models(self) -> Path:
        """One folder per detector: model.onnx and manifest.json."""
        return self.root / "models"

    @property
    def run(self) -> Path:
        """Run folder of the default stack: data, logs, socket, secrets."""
        return self.root / "run"

    @property
    def build(self) -> Path:
        """Intermediate files of the set-up."""
        return self.root / "build"

    @property
    def logs(self) -> Path:
        """Logs of the set-up, one per step."""
        return self.root / "logs"

    @property
    def stamps(self) -> Path:
        """One file per finished set-up step: the key of its inputs."""
        return self.root / "stamps"
