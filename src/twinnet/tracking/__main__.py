"""`python -m twinnet.tracking ui` shows this checkout's store; `… server` serves one on PostgreSQL."""

import sys

from twinnet.core.errors import ConfigError, exit_on_error
from twinnet.tracking.server import server, ui

if __name__ == "__main__":
    with exit_on_error():
        commands = {"ui": ui, "server": server}
        if len(sys.argv) != 2 or sys.argv[1] not in commands:
            raise ConfigError(f"expected `ui` or `server`; received {' '.join(sys.argv[1:])!r}")
        commands[sys.argv[1]]()
