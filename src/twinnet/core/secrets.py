"""Masking of credentials in texts."""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "***"
USERINFO = re.compile(r"(?<=://)[^/?#\s'\"]*@")  # user:password@ of any address; a password may hold an @ itself
SECRET_KEYS = re.compile(r"pass|pwd|token|secret|key", re.IGNORECASE)
VARIABLES = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_AUTH_ADMIN_PASSWORD"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN"),
)


def mask(text: str, address: str | None = None) -> str:
    """Return `text` without the credentials of any address, and without the secrets of the tracking address.

    A secret is hidden where it stands alone, not inside a longer word.
    """
    text = USERINFO.sub(f"{HIDDEN}@", text)
    for secret in sorted(_secrets(address or os.environ.get("MLFLOW_TRACKING_URI", "")), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def _secrets(address: str) -> Iterator[str]:
    """Yield passwords and tokens, as they are written in the address and decoded.

    Very short ones, and those that the address holds in the open too (`mlflow:mlflow@`), would hide plain words.
    """
    found, public = [os.environ.get(name, "") for name in VARIABLES], set()
    try:
        parts = urlsplit(address)
        found.append(parts.password or "")
        found += [value for key, value in parse_qsl(parts.query) if SECRET_KEYS.search(key)]
        public = {*re.split(r"[/.+]", f"{parts.scheme}/{parts.hostname}/{parts.path}")}
        if parts.username and parts.password:
            public.add(parts.username)
        elif parts.username and parts.scheme.startswith("http"):
            found.append(parts.username)  # a token in place of a name; the user of a database is no secret
    except ValueError:
        pass  # not an address: nothing to hide except what the pattern hides
    for secret in found:
        for written in {secret, unquote(secret)}:
            if len(written) >= 4 and written not in public:
                yield written


def mask_nested(value: Any, address: str | None = None) -> Any:
    """Return nested dictionaries and lists with every text masked."""
    if isinstance(value, str):
        return mask(value, address)
    if isinstance(value, dict):
        return {key: mask_nested(inner, address) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask_nested(inner, address) for inner in value]
    return value
