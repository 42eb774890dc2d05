"""Credentials in a tracking address never reach a log, a tag or a file."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinnet.core.secrets import HIDDEN, mask, masked

words = st.text(string.ascii_letters + string.digits + "-_.~!$", min_size=4, max_size=20)
ADDRESSES = ["http://{user}:{password}@host:5000/path", "postgresql+psycopg2://{user}:{password}@db/mlflow"]


@settings(deadline=None, max_examples=60)
@given(user=words, password=words.filter(lambda word: word not in "httphostpathpostgresql+psycopg2dbmlflow5000"))
@pytest.mark.parametrize("form", ADDRESSES)
def test_a_password_is_gone_wherever_it_stands(form: str, user: str, password: str) -> None:
    where = form.format(user=user, password=password)
    told = mask(
        f"cannot reach {where}: password {password} of {user} is wrong; dsn {{'password': '{password}'}}", where
    )
    assert password not in told
    assert f"{user}:" not in told


def test_an_escaped_password_is_hidden_in_both_spellings() -> None:
    where = "postgresql://me:p%40ss%2Fword@db/mlflow"
    assert mask("p%40ss%2Fword or p@ss/word", where) == f"{HIDDEN} or {HIDDEN}"


def test_an_address_that_is_not_ours_is_masked_too() -> None:
    assert mask("https://token123@github.com/a/b.git") == f"https://{HIDDEN}@github.com/a/b.git"


def test_secrets_in_a_query_and_in_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcdef-token")
    told = mask("sslpassword=hunter22 and abcdef-token", "postgresql://db/mlflow?sslpassword=hunter22&sslmode=require")
    assert told == f"sslpassword={HIDDEN} and {HIDDEN}"


def test_what_holds_no_secret_stays_as_it_is() -> None:
    text = "sqlite:////data/mlflow.db, mail to someone@example.org, http://127.0.0.1:5000/#/experiments/1"
    assert mask(text, "sqlite:////data/mlflow.db") == text


def test_nested_values_are_masked_and_numbers_kept() -> None:
    where = "http://me:1234@host"
    assert masked({"a": ["pass 1234", 0.1234, None]}, where) == {"a": [f"pass {HIDDEN}", 0.1234, None]}
