"""`make ui`: the MLflow user interface of this checkout's store, on http://127.0.0.1:5000."""

from twinnet.errors import one_line
from twinnet.tracking.server import ui

if __name__ == "__main__":
    with one_line():
        ui()
