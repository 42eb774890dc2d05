"""Hydra's sweeper for this project (conf/hydra/sweeper/twinnet.yaml): the way from `-m` to `twinnet.sweeps`.

Hydra imports every module of hydra_plugins whenever it composes, so this one imports the rest when it sweeps.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class TwinnetSweeper(Sweeper):
    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """The application's own task trains one experiment anew; the jobs of a sweep run `twinnet.sweeps.jobs.run`."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        from twinnet.core import paths
        from twinnet.core.errors import exit_on_error
        from twinnet.sweeps import grid_search

        assert self.config is not None
        hydra = self.config.hydra
        with exit_on_error():
            return grid_search.lead(
                paths.root(),
                arguments,
                Path(hydra.sweep.dir),
                launcher=hydra.runtime.choices["hydra/launcher"],
                launcher_settings=hydra.launcher,
                launch=self.launch,
            )

    def launch(self, task: partial[Any], overrides: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
        """Hand jobs to the launcher that was chosen; `first` is the number of the first one in this sweep."""
        assert self.hydra_context is not None
        assert self.config is not None
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=task, config=self.config
        )
        return launcher.launch(overrides, initial_job_idx=first)
