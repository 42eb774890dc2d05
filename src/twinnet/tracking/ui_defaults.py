"""MLflow's web application with defaults of this project: pages open as model training, with the scores in sight.

MLflow 3.17.2 opens every experiment as GenAI, with traces in place of runs, until the reader switches over; it
ignores the experiment's tag (`mlflow.experimentKind`). The page therefore gets a script that answers for the
browser's storage if the reader has not chosen yet. MLflow finds this module by the package's entry point `mlflow.app`.
"""

import json
import os
import sys

from flask import Response
from mlflow.exceptions import MlflowException
from mlflow.server import app as pages

if os.environ.get("TWINNET_SERVER_AUTH") == "basic":
    try:
        from mlflow.server import auth  # asks for Flask-WTF, of an extra

        users = auth.auth_config.database_uri or os.environ["MLFLOW_BACKEND_STORE_URI"]  # which holds a password itself
        auth.auth_config = auth.auth_config._replace(database_uri=users)
        app = auth.create_app(pages)
    except (ImportError, MlflowException) as error:
        sys.exit(f"error: {error}")
else:
    from mlflow.server.fastapi_app import app

__all__ = ["app"]

SCORES = ("accuracy", "loss", "mae")
METRICS = (*(f"{split}/{score}" for split in ("test", "final/valid") for score in SCORES), "seconds")
COLUMNS = [f"metrics.`{name}`" for name in METRICS] + ["tags.`engine`", "attributes.`Models`"]
# The browser's storage: pattern of the key -> value, as JSON.
DEFAULTS = {
    r"^mlflow\.workflowType_v1$": "machine_learning",
    r"-ExperimentPage-.*-ReactComponentState$": {"selectedColumns": COLUMNS},
    r"^mlflow\.assistant\.fab\.autoOpenedOnFirstLoad_v1$": True,  # the assistant waits until it is called
    r"^mlflow\.settings\.telemetry\.enabled_v1$": False,  # as for everything else here that talks to MLflow
    r"^mlflow\.telemetry\.info\.alert\.dismissed_v1$": True,
}
SCRIPT = """{
  const defaults = DEFAULTS, read = Storage.prototype.getItem;
  Storage.prototype.getItem = function (key) {
    return read.call(this, key) ?? defaults.find(([pattern]) => new RegExp(pattern).test(key))?.[1] ?? null;
  };
}""".replace("DEFAULTS", json.dumps([(pattern, json.dumps(value)) for pattern, value in DEFAULTS.items()]))


@pages.after_request
def open_as_model_training(response: Response) -> Response:
    """Put the script at the head of MLflow's one page; leave every other answer."""
    if response.mimetype == "text/html" and response.status_code == 200:
        response.direct_passthrough = False
        page = response.get_data(as_text=True)
        if 'id="root"' in page:
            response.set_data(page.replace("<head>", f"<head><script>{SCRIPT}</script>", 1))
            for name in ("ETag", "Last-Modified"):  # of the page without the script
                response.headers.pop(name, None)
    return response
