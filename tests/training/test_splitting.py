"""Properties of splits and scaling."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from twinnet.core.errors import DataError
from twinnet.core.schema import ImageData, TableData, Task
from twinnet.training.dataset import check_labels, mean_and_std, split_images, split_rows, split_table

FRACTIONS = st.floats(0.1, 0.9)
SEEDS = st.integers(0, 2**32 - 1)


def table_data(**changes: object) -> TableData:
    facts = {"name": "t", "task": Task.binary, "classes": ["a", "b"], "features": ["x"], "target": "y"}
    return TableData(**(facts | changes))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 200), FRACTIONS, SEEDS)
def test_split_is_scikit_learn_s_with_each_row_on_one_side(rows: int, fraction: float, seed: int) -> None:
    train, valid = split_rows(rows, fraction, seed)
    assert sorted([*train, *valid]) == list(range(rows))
    expected = train_test_split(np.arange(rows), test_size=fraction, random_state=seed)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(valid, expected[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(10, 100), st.integers(10, 100), FRACTIONS, SEEDS)
def test_stratified_split_preserves_the_proportions(guards: int, forwards: int, fraction: float, seed: int) -> None:
    labels = np.repeat([0, 1], [guards, forwards])
    train, valid = split_rows(len(labels), fraction, seed, labels=labels)
    assert sorted([*train, *valid]) == list(range(len(labels)))
    for side in (train, valid):
        assert abs((labels[side] == 1).sum() - forwards * len(side) / len(labels)) <= 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=8), FRACTIONS, SEEDS)
def test_split_by_groups_never_divides_a_group(sizes: list[int], fraction: float, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    try:
        train, valid = split_rows(len(groups), fraction, seed, groups=groups)
    except DataError:  # a fraction that leaves one side without a group
        return
    assert sorted([*train, *valid]) == list(range(len(groups)))
    assert not set(groups[train]) & set(groups[valid])


def test_several_values_of_split_by_are_split_and_one_is_not() -> None:
    table = pd.DataFrame({"season": [2017, 2018, 2019] * 20, "x": range(60), "y": [0, 1] * 30})
    splits = split_table(table, table_data(split_by="season"))
    sides = [set(table["season"][table["x"].isin(splits[f"X_{side}"][:, 0])]) for side in ("train", "valid")]
    assert (len(sides[0]), len(sides[1])) == (2, 1)
    one_season = split_table(table.assign(season=2019), table_data(split_by="season"))
    expected = train_test_split(np.arange(60), test_size=0.33, random_state=42)[0]
    np.testing.assert_array_equal(one_season["X_train"][:, 0], expected)
    np.testing.assert_array_equal(split_table(table, table_data())["X_train"][:, 0], expected)
    stratified = split_table(table.assign(season=2019), table_data(split_by="season", stratify=True))
    assert stratified["y_train"].mean() == 0.5


def test_split_by_player_never_divides_a_player() -> None:
    table = pd.DataFrame({"player_id": np.arange(60) // 3, "season": 2019, "x": range(60), "y": [0, 1] * 30})
    splits = split_table(table, table_data(split_by="player_id"))
    assert not set(splits["X_train"][:, 0] // 3) & set(splits["X_valid"][:, 0] // 3)
    names = table.assign(player_id=table["player_id"].map({player: f"n{player:02d}" for player in range(19)}))
    by_name = split_table(names, table_data(split_by="player_id"))  # the last player's rows lack a name
    np.testing.assert_array_equal(by_name["X_valid"], splits["X_valid"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ["z"]}, r"expected a column of the table: x, y, name, holes, infinite, half; received 'z'"),
        ({"target": "z"}, r"expected a column of the table"),
        ({"features": ["name"]}, r"column 'name': expected numbers; received text such as 'n'"),
        ({"features": ["x", "holes"]}, r"column 'holes': expected finite numbers; 1 of 20 are missing or infinite"),
        ({"features": ["infinite"]}, r"column 'infinite': expected finite numbers"),
        ({"split_by": "team"}, r"split_by: expected one of x, y, .*; received 'team'"),
        ({"split_by": "half", "valid_fraction": 0.999}, r"valid_fraction=0.999 cannot split 20 rows"),
        ({"split_by": "half", "stratify": True}, r"stratify=true: expected a split by rows"),
        ({"valid_fraction": 0.999}, r"cannot split 20 rows"),
    ],
)
def test_table_that_cannot_be_split_is_one_line(changes: dict[str, object], message: str) -> None:
    table = pd.DataFrame(
        {"x": range(20), "y": [0, 1] * 10, "name": "n", "holes": 1.0, "infinite": 1.0, "half": ["a", "b"] * 10}
    )
    table.loc[3, "holes"], table.loc[3, "infinite"] = np.nan, np.inf
    with pytest.raises(DataError, match=message) as raised:
        split_table(table, table_data(**changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2], "expected labels 0 to 1 in train; received 0, 1, 2"),
        ([0, 1, -1], "expected labels 0 to 1 in train; received -1, 0, 1"),
        ([0, 0.5, 1], "expected labels 0 to 1 in train; received 0, 0.5, 1"),
        ([1, 1, 1], "expected at least two classes to train on; received one"),
        ([], "expected samples and as many labels in train; received 0 labels"),
        ([0, 1], "expected samples and as many labels in train; received 2 labels"),
    ],
)
def test_labels_that_cannot_be_trained_on_are_refused(y: list[float], message: str) -> None:
    X = np.zeros((len(y) if len(y) != 2 else 3, 1))
    with pytest.raises(DataError, match=message):
        check_labels({"X_train": X, "y_train": np.array(y), "X_valid": X, "y_valid": np.array(y)}, table_data())


@settings(deadline=None, max_examples=40)
@given(arrays.arrays(np.float64, (12, 3), elements=st.floats(-1e3, 1e3).map(lambda value: round(value, 3))))
def test_mean_and_std_are_scikit_learn_s(X: np.ndarray) -> None:
    mean, scale = mean_and_std(X)
    expected = StandardScaler().fit(X)
    np.testing.assert_allclose(mean, expected.mean_, atol=1e-9)
    varies = X.max(axis=0) > X.min(axis=0)
    np.testing.assert_allclose(scale[varies], np.sqrt(expected.var_)[varies], rtol=1e-6)
    assert (scale > 0).all()


@settings(deadline=None, max_examples=20)
@given(arrays.arrays(np.uint8, (5, 4, 3, 2)))
def test_images_have_a_mean_and_std_by_channel(X: np.ndarray) -> None:
    mean, scale = mean_and_std(X)
    expected = mean_and_std(X.astype(np.float64))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-9)
    np.testing.assert_allclose(scale, expected[1], rtol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 29), st.floats(0.05, 1))
def test_validation_images_are_the_first_training_images(wanted: int, fraction: float) -> None:
    X = np.arange(30 * 4, dtype=np.uint8).reshape(30, 2, 2)
    y = np.arange(30) % 2
    data = ImageData(name="i", task=Task.binary, classes=["a", "b"], image_shape=[2, 2, 1])
    data.valid_samples, data.train_fraction = wanted, fraction
    splits = split_images({"X_train": X, "y_train": y, "X_test": X, "y_test": y}, data)
    np.testing.assert_array_equal(splits["X_valid"][..., 0], X[:wanted])
    np.testing.assert_array_equal(splits["y_valid"], y[:wanted])
    trained = len(splits["X_train"])
    assert trained == max(1, round((30 - wanted) * fraction))
    np.testing.assert_array_equal(splits["X_train"][..., 0], X[wanted : wanted + trained])
    np.testing.assert_array_equal(splits["y_train"], y[wanted : wanted + trained])
    assert splits["X_test"].shape == (30, 2, 2, 1)


def test_images_of_another_shape_are_refused() -> None:
    arrays = {"X_train": np.zeros((8, 2, 2), np.uint8), "y_train": np.arange(8) % 2}
    data = ImageData(name="i", task=Task.binary, classes=["a", "b"], image_shape=[3, 3, 1])
    data.valid_samples = 4
    with pytest.raises(DataError, match=r"image_shape: expected \[2, 2\] as in i; received \[3, 3, 1\]"):
        split_images(arrays, data)
    for shape in ([3, 2, 2], [2, 2, 3, 1]):  # of as many numbers as 2 x 2 x 3
        data.image_shape = [2, 2, 3]
        with pytest.raises(DataError, match=r"image_shape: expected .* as in i; received \[2, 2, 3\]"):
            split_images(arrays | {"X_train": np.zeros((8, *shape), np.uint8)}, data)
    data.valid_samples = 8
    with pytest.raises(DataError, match="valid_samples=8: expected fewer than the 8 training images"):
        split_images(arrays, data)
