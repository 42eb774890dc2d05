"""`make server`: an MLflow tracking server on PostgreSQL, with the artifacts of its runs in mlartifacts/."""

from twinnet.errors import one_line
from twinnet.tracking.server import server

if __name__ == "__main__":
    with one_line():
        server()
