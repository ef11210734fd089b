"""InfluxDB of a stack: the local server's first set-up and tokens, or a server of the user's own."""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sightflow.errors import CheckFailed, ServiceFailed
from sightflow.stack.ports import HOST, Ports

ORG = "sightflow"
BUCKET = "sightflow"
_REQUEST_TIMEOUT_S = 5.0
# Only the stack's own server on loopback is asked from here: never through a proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class InfluxTarget:
    """One bucket of one server.

    Args:
        url: http(s)://host:port.
        org: organisation.
        bucket: bucket.
        token_file: holds a token that may read and write the bucket.
        write_token_file: holds the token that jobs get; the local stack's may only write.
        local: whether the stack runs this server.
    """

    url: str
    org: str
    bucket: str
    token_file: Path
    write_token_file: Path
    local: bool

    def token(self) -> str:
        """Return the reading and writing token."""
        return self.token_file.read_text().strip()


def target(run_dir: Path, ports: Ports) -> InfluxTarget:
    """Return the server that the environment names ($INFLUXDB_V2_*), else the stack's own.

    Raises:
        CheckFailed: some of the four variables are set and some are not, or the token file is missing.
    """
    url = os.environ.get("INFLUXDB_V2_URL")
    if url:
        return _users_own(url)
    folder = run_dir / "secrets"
    return InfluxTarget(
        f"http://{HOST}:{ports.influx}", ORG, BUCKET, folder / "influx-token", folder / "influx-write-token", True
    )


def _users_own(url: str) -> InfluxTarget:
    names = ("INFLUXDB_V2_ORG", "INFLUXDB_V2_BUCKET", "INFLUXDB_V2_TOKEN_FILE")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise CheckFailed(
            f"INFLUXDB_V2_URL names a server of yours, but {', '.join(missing)} is not set",
            "set all four of INFLUXDB_V2_URL, _ORG, _BUCKET, _TOKEN_FILE, or none to have a local server",
        )
    token_file = Path(os.environ["INFLUXDB_V2_TOKEN_FILE"]).expanduser().absolute()
    if not token_file.is_file():
        raise CheckFailed(f"INFLUXDB_V2_TOKEN_FILE names {token_file}, which is not a file")
    return InfluxTarget(
        url.rstrip("/"), os.environ["INFLUXDB_V2_ORG"], os.environ["INFLUXDB_V2_BUCKET"], token_file, token_file, False
    )


def command(influxd: Path, data_dir: Path, ports: Ports) -> tuple[str, ...]:
    """Return the command of the local server; its default would listen on every interface."""
    return (
        str(influxd),
        f"--bolt-path={data_dir / 'influxd.bolt'}",
        f"--sqlite-path={data_dir / 'influxd.sqlite'}",
        f"--engine-path={data_dir / 'engine'}",
        f"--http-bind-address={HOST}:{ports.influx}",
        "--reporting-disabled",
        "--log-level=warn",
    )


def is_ready(url: str) -> bool:
    """Return whether the server says that it is healthy."""
    return bool(_call("GET", f"{url}/health").get("status") == "pass")


def set_up(where: InfluxTarget) -> None:
    """Give a new local server its organisation, bucket and tokens; an existing one is only checked.

    Raises:
        ServiceFailed: the server belongs to another run folder, so its token is unknown here.
    """
    if _call("GET", f"{where.url}/api/v2/setup").get("allowed"):
        _onboard(where)
    try:
        bucket_id = _bucket_id(where)
    except (urllib.error.HTTPError, FileNotFoundError) as error:
        raise ServiceFailed(
            f"InfluxDB at {where.url} does not know the token in {where.token_file} ({error})",
            "its data and its token have come apart: `sightflow down --wipe`, then `sightflow up`",
        ) from error
    if not where.write_token_file.exists():
        write_secret(where.write_token_file, _make_write_token(where, bucket_id))


def _onboard(where: InfluxTarget) -> None:
    token = secrets.token_urlsafe(32)
    # The token is on disk before the server knows it: a crash in between must not lock us out.
    write_secret(where.token_file, token)
    where.write_token_file.unlink(missing_ok=True)
    request = {
        "username": "sightflow",
        "password": secrets.token_urlsafe(24),
        "org": where.org,
        "bucket": where.bucket,
        "retentionPeriodSeconds": 0,
        "token": token,
    }
    _call("POST", f"{where.url}/api/v2/setup", body=request)


def _bucket_id(where: InfluxTarget) -> dict[str, str]:
    found = _call("GET", f"{where.url}/api/v2/buckets?org={where.org}&name={where.bucket}", where.token())["buckets"][0]
    return {"bucket": found["id"], "org": found["orgID"]}


def _make_write_token(where: InfluxTarget, ids: dict[str, str]) -> str:
    permission = {"action": "write", "resource": {"type": "buckets", "id": ids["bucket"], "orgID": ids["org"]}}
    request = {"orgID": ids["org"], "description": "jobs: write only", "permissions": [permission]}
    return str(_call("POST", f"{where.url}/api/v2/authorizations", where.token(), request)["token"])


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text + "\n")


def _call(method: str, url: str, token: str | None = None, body: dict[str, Any] | None = None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Token {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    with _DIRECT.open(request, timeout=_REQUEST_TIMEOUT_S) as answer:
        return cast(dict[str, Any], json.load(answer))
