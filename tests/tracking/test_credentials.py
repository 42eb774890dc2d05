"""Credentials in a tracking address never reach a log, a tag or a file."""

import re
import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twinnet.core.secrets import HIDDEN, mask, mask_nested

words = st.text(string.ascii_letters + string.digits + "-_.~!$", min_size=4, max_size=20)
ADDRESSES = ["http://{user}:{password}@host:5000/path", "postgresql+psycopg2://{user}:{password}@db/mlflow"]


@settings(deadline=None, max_examples=60)
@given(user=words, password=words.filter(lambda word: word not in "httphostpathpostgresql+psycopg2dbmlflow5000"))
@pytest.mark.parametrize("form", ADDRESSES)
def test_password_is_hidden_wherever_it_stands(form: str, user: str, password: str) -> None:
    assume(password not in (user, "cannot", "reach", "password", "wrong"))
    uri = form.format(user=user, password=password)
    text = mask(f"cannot reach {uri}: password {password} of {user} is wrong; dsn {{'password': '{password}'}}", uri)
    assert not re.search(rf"(?<!\w){re.escape(password)}(?!\w)", text)
    assert f"//{user}:" not in text


@pytest.mark.parametrize("login", ["mlflow", "mlflow:mlflow", "postgres:mlflow"])
def test_words_of_an_address_stay_in_a_text(login: str) -> None:
    text = "`mlflow.pyfunc.load_model` reads it; the mlflow store failed at "
    uri = f"postgresql://{login}@db/mlflow"
    assert mask(f"{text}{uri}", uri) == f"{text}postgresql://{HIDDEN}@db/mlflow"


def test_secret_inside_a_longer_word_stays() -> None:
    assert mask("a tensor of ten, hunter: tens", "http://me:tens@host") == f"a tensor of ten, hunter: {HIDDEN}"


def test_escaped_password_is_hidden_in_both_spellings() -> None:
    uri = "postgresql://me:p%40ss%2Fword@db/mlflow"
    assert mask("p%40ss%2Fword or p@ss/word", uri) == f"{HIDDEN} or {HIDDEN}"


def test_address_of_others_is_masked_too() -> None:
    assert mask("https://token123@github.com/a/b.git") == f"https://{HIDDEN}@github.com/a/b.git"


def test_secrets_in_a_query_and_in_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcdef-token")
    text = mask("sslpassword=hunter22 and abcdef-token", "postgresql://db/mlflow?sslpassword=hunter22&sslmode=require")
    assert text == f"sslpassword={HIDDEN} and {HIDDEN}"


def test_text_without_a_secret_stays() -> None:
    text = "sqlite:////data/mlflow.db, mail to someone@example.org, http://127.0.0.1:5000/#/experiments/1"
    assert mask(text, "sqlite:////data/mlflow.db") == text


def test_nested_values_are_masked_and_numbers_kept() -> None:
    uri = "http://me:1234@host"
    assert mask_nested({"a": ["pass 1234", 0.1234, None]}, uri) == {"a": [f"pass {HIDDEN}", 0.1234, None]}
