"""A copy of conf/ whose suite is smaller: composing nine experiments takes most of a second."""

import re
import shutil
from pathlib import Path


def copy_conf(root: Path, folder: Path, *entries: str) -> Path:
    """Copy conf/ of `root` to `folder`; of the suite only `entries` stay, each as `dataset@datasets.nba: nba`."""
    shutil.copytree(root / "conf", folder / "conf")
    keep_entries(folder / "conf" / "config.yaml", *entries)
    return folder


def keep_entries(suite: Path, *entries: str) -> None:
    """Take each data set and each experiment out of conf/config.yaml, `suite`, and put `entries` in."""
    ours = "".join(f"  - {entry}\n" for entry in entries)
    others = re.sub(r"  - (dataset|experiment)@.*\n", "", suite.read_text("utf-8"))
    suite.write_text(others.replace("  - _self_\n", f"{ours}  - _self_\n"), "utf-8")
