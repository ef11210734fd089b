"""A camera's source as the capture needs it: address and secrets apart."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from edge_agent.redaction import redact, redact_address
from schemas.settings import Source

_ENCODE = "write / ? # @ : % in a name or a password as %2F %3F %23 %40 %3A %25, an @ in a path as %40"
SCHEMES = ("rtsp", "rtsps", "file")


class SourceError(ValueError):
    """A source that cannot be used; the text says what was expected."""


@dataclass(frozen=True)
class ResolvedSource:
    """Where the video comes from. `url` holds no name and no password; `secrets` are what must never be shown."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Strings to blot out of whatever others say about this source."""
        return (self.password,) if self.password else ()

    @property
    def shown(self) -> str:
        """The address as it may be logged."""
        return redact(self.url, self.secrets)

    @property
    def is_file(self) -> bool:
        """Whether this is a file rather than a camera."""
        return self.url.startswith("file://")


def resolve_source(source: Source) -> ResolvedSource:
    """Split a source of the settings and read its password file. Raises SourceError."""
    bare = split_url(source.url)
    password = read_secret(Path(source.password_file)) if source.password_file else bare.password
    return ResolvedSource(bare.url, source.username or bare.username, password)


def split_url(url: str) -> ResolvedSource:
    """Take name and password out of `rtsp://name:password@host/path`. Raises SourceError."""
    if not re.fullmatch(r"[^\s\"'!]{1,2048}", url):
        raise SourceError("a source's URL must be 1 to 2048 characters without blanks, quotes and '!'")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its text would quote what stands where a port should: part of a password
        raise SourceError(f"{redact_address(url)} is no URL with a host and a port up to 65535; {_ENCODE}") from None
    if parts.scheme not in SCHEMES:
        raise SourceError(f"{redact_address(url)}: expected a URL of {', '.join(s + '://' for s in SCHEMES)}")
    if parts.scheme == "file":
        return ResolvedSource(f"file://{_existing(unquote(parts.path))}")
    if not host:
        raise SourceError(f"{redact_address(url)}: the host is missing")
    if "@" not in parts.netloc and "@" in url:  # rtsp://name:12/34@host: the rest of a password would be the path
        raise SourceError(f"{redact_address(url)}: an @ stands behind the host; {_ENCODE}")
    where = f"[{host}]" if ":" in host else host
    bare = urlunsplit((parts.scheme, f"{where}:{port}" if port else where, parts.path, parts.query, ""))
    return ResolvedSource(bare, unquote(parts.username or ""), unquote(parts.password or ""))


def _existing(path: str) -> str:
    if not Path(path).is_file():
        raise SourceError(f"no such file: {path}")
    return str(Path(path).resolve())


def read_secret(path: Path) -> str:
    """Return the first line of a file that holds one secret. Raises SourceError."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise SourceError(f"password file {path}: {e}") from None
    if not lines or not lines[0].strip():
        raise SourceError(f"password file {path} is empty: write the password as its first line")
    return lines[0].strip()


def derive_camera_id(source: ResolvedSource) -> str:
    """Return an id for a camera that was named by its URL only: host and path, in the letters that ids may have."""
    parts = urlsplit(source.url)
    words = [Path(parts.path).stem] if source.is_file else [parts.hostname or "", *parts.path.split("/")]
    text = "-".join(re.sub(r"[^A-Za-z0-9_.\-]+", "-", redact(word)).strip("-.") for word in words if word)
    return re.sub(r"^[^A-Za-z0-9]+", "", text)[:64].strip("-.") or "camera"
