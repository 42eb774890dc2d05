"""The Hydra application: `python -m twinnet.train experiment=nba_scratch optimizer.learning_rate=0.01`."""

import logging
import sys
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser  # the only parser of Hydra's own flags
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from twinnet import config, paths, tracking, training
from twinnet.config.schema import Tracking
from twinnet.errors import one_line

log = logging.getLogger(__name__)


def job(composed: DictConfig) -> float:
    """One job of the application; returns the loss on the validation split."""
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    with one_line():
        experiment = config.experiment(composed)
        settings = OmegaConf.to_object(composed.tracking)
        assert isinstance(settings, Tracking)
        tracker = tracking.tracker(settings, overrides=list(hydra_config.overrides.task))
        run = training.train(experiment, directory, tracker=tracker)
    log.info("the run lies in %s", directory)
    return float(run.metrics["valid/loss"])


def main() -> None:
    """Check the whole command line in one line's worth of words, then hand it to Hydra."""
    with one_line():
        root = paths.root()
        arguments = get_args_parser().parse_args()
        if not (arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.multirun):
            config.experiment(config.compose(root, "train", arguments.overrides))
    hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name="train")(job)()


if __name__ == "__main__":
    sys.exit(main())
