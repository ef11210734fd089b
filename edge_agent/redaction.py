"""Keeping secrets out of logs, errors, metrics and messages."""

from __future__ import annotations

import re

# Up to the last @: passwords are written into URLs as they are, with / and @ in them.
_USERINFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.\-]*://)\S*@")
# Some cameras want the password in the path: rtsp://cam/user=admin_password=secret_channel=1.sdp
_NAMED = re.compile(
    r"(?i)\b((?:[a-z0-9.]*[._&?/\-])?(?:pass(?:word|wd)?|pwd|pw|secret|token|api_?key)\s*[=:]\s*)[^\s&_/;,\"']+"
)
_HEADER = re.compile(r"(?i)(authorization\s*:\s*)[^\r\n]*")
MASK = "***"


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return `text` without user names and passwords of URLs, named passwords, and the given `secrets`."""
    for secret in secrets:
        if len(secret) >= 3:  # shorter ones would blot out ordinary words
            text = text.replace(secret, MASK)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    return _NAMED.sub(rf"\1{MASK}", text)


def redact_address(text: str) -> str:
    """Return `text`, meant as a URL, without all that stands before an @, even where it is no URL."""
    shown = redact(text)
    _, at, rest = shown.rpartition("@")
    return f"{MASK}@{rest}" if at and f"{MASK}@" not in shown else shown
