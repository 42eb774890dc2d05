"""`python -m twinnet.tracking ui` shows this checkout's store; `... server` serves one on PostgreSQL.

`python -m twinnet.tracking promote fashion_mnist` registers the model of the data set's best run as
`models:/fashion_mnist@best`, which `mlflow models serve -m` takes.
"""

import sys

from twinnet.core.errors import ConfigError, exit_on_error
from twinnet.tracking import server


def main(words: list[str]) -> None:
    match words:
        case _ if {"-h", "--help"} & set(words):
            print(__doc__)
        case ["ui"]:
            server.ui()
        case ["server"]:
            server.server()
        case ["promote", name]:
            from twinnet.tracking.search_runs import promote  # 0.5 s: pandas

            print(promote(name))
        case _:
            raise ConfigError(f"expected `ui`, `server` or `promote DATASET`; received {' '.join(words)!r}")


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
