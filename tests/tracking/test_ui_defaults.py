"""The page that `make ui` serves."""

import urllib.request

import pytest

pytestmark = pytest.mark.xdist_group("server")


def test_page_opens_as_model_training(server: str) -> None:
    with urllib.request.urlopen(server) as answer:
        page, headers = answer.read().decode(), answer.headers
    assert int(headers["Content-Length"]) == len(page.encode())
    script = page.partition("</script>")[0]
    assert "mlflow\\\\.workflowType_v1" in script
    assert "metrics.`final/valid/accuracy`" in script
    assert not {"ETag", "Last-Modified"} & set(headers)
    with urllib.request.urlopen(f"{server}/version") as answer:
        assert answer.read().decode()[:2] == "3."


def test_ui_prints_its_address_alone(server: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.getbasetemp() / "server0" / "server.log"
    assert log.read_text().startswith(f"{server}\n")
    assert not any(note in log.read_text() for note in ("INFO", "[MLflow]", "Starlette", "Registry"))
