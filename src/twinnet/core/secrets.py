"""Credentials in a tracking address never reach a log, a tag or a file."""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"
USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")  # user:password@ of any address; a password may hold an @ itself
SECRET_KEYS = re.compile(r"pass|pwd|token|secret|key", re.IGNORECASE)
VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def mask(text: str, address: str | None = None) -> str:
    """`text` without what stands before the @ of an address, and without the secrets of the tracking address."""
    text = USERINFO.sub(f"{HIDDEN}@", text)
    for secret in sorted(_secrets(address or os.environ.get("MLFLOW_TRACKING_URI", "")), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(address: str) -> Iterator[str]:
    """Passwords and tokens, as they are written in the address and decoded; very short ones would hide plain words."""
    found = [os.environ.get(name, "") for name in VARIABLES]
    try:
        parts = urlsplit(address)
        found.append(parts.password or "")
        found += [value for key, value in parse_qsl(parts.query) if SECRET_KEYS.search(key)]
        if parts.username and not parts.password:  # a token in place of a name
            found.append(parts.username)
    except ValueError:
        pass  # no address at all: nothing to hide in it but what the pattern hides
    for secret in found:
        for written in {secret, unquote(secret)}:
            if len(written) >= 4:
                yield written


def masked(value: Any, address: str | None = None) -> Any:
    """`mask` for every text inside nested dictionaries and lists."""
    if isinstance(value, str):
        return mask(value, address)
    if isinstance(value, dict):
        return {key: masked(inner, address) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, address) for inner in value]
    return value
