"""Files that editors and notebooks leave in a folder of deps are no part of a stage."""

import subprocess
from pathlib import Path


def test_leftovers_of_editors_are_not_part_of_a_stage(root: Path) -> None:
    leftovers = ["src/twinnet/core/.#rules.py", "conf/.ipynb_checkpoints/config.yaml", "src/twinnet/__pycache__/a.pyc"]
    done = subprocess.run(["dvc", "check-ignore", *leftovers], cwd=root, capture_output=True, text=True)
    assert done.stdout.split() == leftovers
