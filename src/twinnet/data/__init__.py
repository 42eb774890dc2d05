"""Data: where it comes from, how it is checked, how experiments read it."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """`twinnet.data.load`, found when it is asked for: a download does not depend on how data is read."""
    if name == "load":
        return import_module("twinnet.data.reading").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
