"""Hydra's sweeper of this project (conf/hydra/sweeper/twinnet.yaml), which `-m` calls.

Hydra imports every module of hydra_plugins whenever it composes, so this one imports the rest when it sweeps.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from twinnet.core import paths
from twinnet.core.errors import exit_on_error


class ResultAlone(Callback):
    """Empties the configurations that a job returns: the leader would hold 0.17 MB for each job until the end."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


class TwinnetSweeper(Sweeper):
    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Ignore the application's own task: the jobs of a sweep run `twinnet.sweeps.job_runner.run_job`."""
        self.hydra_context, self.config = hydra_context, config
        hydra_context.callbacks.callbacks.insert(0, ResultAlone())  # the last one that is called

    def sweep(self, arguments: list[str]) -> Any:
        from twinnet.sweeps.grid_search import run_sweep  # 2 s: pandas, matplotlib

        assert self.config is not None
        hydra = self.config.hydra
        settings: Any = OmegaConf.to_container(hydra.launcher, resolve=True)
        with exit_on_error():
            return run_sweep(
                paths.root(),
                arguments,
                Path(hydra.sweep.dir).absolute(),
                launcher=hydra.runtime.choices["hydra/launcher"],
                launcher_settings=settings,
                launch=self.launch,
            )

    def launch(self, task: partial[Any], overrides: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
        """Pass jobs to the chosen launcher; `first` is the number of the first one in this sweep."""
        from twinnet.sweeps import ray_cluster, slurm  # loaded by `sweep`, as the next
        from twinnet.sweeps.expand import JobConfigLoader

        assert self.hydra_context is not None
        assert self.config is not None
        context = HydraContext(JobConfigLoader(paths.root() / "conf"), self.hydra_context.callbacks)
        launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=self.config
        )
        match self.config.hydra.runtime.choices["hydra/launcher"]:
            case "ray":
                return ray_cluster.launch(launcher, overrides, first)
            case "submitit_slurm":
                return slurm.launch(launcher, overrides, first)
        return launcher.launch(overrides, initial_job_idx=first)
