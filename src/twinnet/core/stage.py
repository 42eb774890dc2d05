"""Set-up of every DVC stage: params.yaml, a plain log, a user's mistake in one line."""

import logging
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from twinnet.core.errors import ConfigError, exit_on_error, one_line_text

PARAMS = Path("params.yaml")
LOADER: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
LOADER.add_implicit_resolver(  # 1e-05 is a number, as for Hydra and for DVC, which writes it
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
PARTS = ("experiments", "datasets", "compare", "tracking")


@contextmanager
def stage() -> Iterator[None]:
    """Run a stage; SIGTERM ends it like Ctrl-C, so that a run it was training is marked as interrupted."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("jax").setLevel(logging.WARNING)  # it reports each device that it does not find
    try:
        with exit_on_error():
            yield
    except KeyboardInterrupt:
        sys.exit("interrupted")


def params(root: Path = Path(".")) -> dict[str, Any]:
    """Return params.yaml under `root`. Raises ConfigError if it is missing or not a composition."""
    try:
        values = yaml.load((root / PARAMS).read_text(encoding="utf-8-sig"), LOADER)
    except FileNotFoundError as error:
        raise ConfigError("expected params.yaml in the working directory; found none; run `make params`") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"params.yaml: expected a YAML file; received {one_line_text(error)[:200]}; run `make params`"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(values.get(part), dict) for part in PARTS):
        raise ConfigError("params.yaml: expected the composition of conf/; received another file; run `make params`")
    return values


def argument(part: str) -> tuple[str, dict[str, Any]]:
    """Return the name that a stage is given, and its experiment or data set of params.yaml.

    Raises ConfigError if there is no such name.
    """
    entries = params()[part]
    name = " ".join(sys.argv[1:])
    if name not in entries:
        raise ConfigError(f"{part}: expected one of {', '.join(map(str, entries))}; received {name!r}")
    return name, entries[name]
