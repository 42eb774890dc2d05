"""A small checkout of a test's own: commands that run there train on a small table of players."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.processed import write_players
from tests.servers import ROOT

TRAIN = ("twinnet.train", "experiment=nba_scratch", "engine=scratch_numpy", "epochs=30", "tracking.timeout_seconds=30")
PARAMS = "experiments: {}\ndatasets: {}\ncompare: {}\ntracking: {timeout_seconds: 30}\n"
LATER = "`python -m pipelines.publish` sends it"


@dataclass(frozen=True)
class Checkout:
    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Checkout":
        write_players(folder)
        for name in ("conf", "pipelines"):
            shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
        (folder / "params.yaml").write_text(PARAMS)
        return cls(folder)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a module; both streams come back as stdout."""
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=self.folder, env=os.environ | environment, text=True, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
