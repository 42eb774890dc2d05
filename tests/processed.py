"""data/processed/<name>/ as `preprocess` writes it, from arrays or a table of a test."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from twinnet.core import provenance
from twinnet.core.provenance import Provenance


def write_table(root: Path, name: str, table: pd.DataFrame, source: str = provenance.SYNTHETIC) -> Path:
    return write_bytes(root, name, "table.csv", table.to_csv(index=False).encode(), source)


def write_arrays(root: Path, name: str, arrays: dict[str, np.ndarray], source: str = provenance.SYNTHETIC) -> Path:
    """Return the file of X_train, y_train and, if given, X_test and y_test."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return write_bytes(root, name, "arrays.npz", packed.getvalue(), source)


def write_bytes(root: Path, name: str, file_name: str, content: bytes, source: str = provenance.SYNTHETIC) -> Path:
    drawn = Provenance(name, source, "none", "drawn for a test", ())
    return provenance.write_processed(root, file_name, content, drawn)


def write_players(root: Path) -> None:
    """Make `root` a project with a small table of separable players."""
    random = np.random.default_rng(0)
    is_forward = random.integers(0, 2, 60)
    columns = {
        "season": 2019,
        "apg": np.round(random.gamma(2, 1, 60) + 2 * (1 - is_forward), 1),
        "rpg": np.round(random.gamma(2, 1, 60) + 3 * is_forward, 1),
        "ppg": np.round(random.gamma(3, 3, 60), 1),
        "is_forward": is_forward,
    }
    (root / "conf").mkdir()
    (root / "conf" / "config.yaml").write_text("")
    (root / "dvc.yaml").write_text("")
    write_table(root, "nba", pd.DataFrame(columns))
