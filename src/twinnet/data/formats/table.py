"""Read the CSV table of a data set of one's own, as conf/dataset/<name>.yaml and conf/data/<name>.yaml describe it."""

from io import BytesIO
from pathlib import Path

import pandas as pd

from twinnet.core.errors import DataError
from twinnet.core.schema import TableData, TableDataset
from twinnet.data.formats.idx import decompress


def read(dataset: TableDataset, raw: Path) -> pd.DataFrame:
    """Return the table, its classes as 0, 1, ...; raises DataError for another hash, column or class than expected."""
    if len(dataset.files) != 1:
        raise DataError(f"datasets.{dataset.name}.files: expected one table; received {len(dataset.files)} files")
    [(name, expected)] = dataset.files.items()
    content = decompress(raw / name, dataset.transport.max_bytes, expected)
    try:
        table = pd.read_csv(
            BytesIO(content), keep_default_na=False, na_values=[""], encoding="utf-8-sig", low_memory=False
        )
    except ValueError as error:
        raise DataError(f"{name}: expected a CSV table in UTF-8 with a header; {error}") from error
    if table.empty:
        raise DataError(f"{name}: expected rows; received none")
    reading = dataset.reading
    if not isinstance(reading, TableData):
        raise DataError(f"datasets.{dataset.name}: a table cannot be read as {reading.kind}")
    columns = [*reading.features, reading.target, *([reading.split_by] if reading.split_by else [])]
    if missing := [column for column in columns if column not in table]:
        raise DataError(f"{name}: expected the columns {', '.join(missing)}; received {', '.join(map(str, table))}")
    return _with_numbered_classes(table, name, reading)


def _with_numbered_classes(table: pd.DataFrame, name: str, reading: TableData) -> pd.DataFrame:
    """Return the table with the names of classes in its target column replaced by their position in `classes`."""
    labels = table[reading.target]
    if not reading.classes or pd.api.types.is_numeric_dtype(labels):
        return table
    numbers = {str(label): number for number, label in enumerate(reading.classes)}
    if unknown := sorted(set(labels.astype(str)) - set(numbers)):
        raise DataError(
            f"{name}: expected the classes {', '.join(numbers)} in {reading.target}; received {', '.join(unknown[:5])}"
        )
    return table.assign(**{reading.target: labels.astype(str).map(numbers)})
