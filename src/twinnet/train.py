"""The Hydra application: `python -m twinnet.train experiment=nba_scratch optimizer.learning_rate=0.01`.

With `-m` it is a sweep: `python -m twinnet.train -m seed=1,2,3 optimizer.learning_rate=0.1,0.01`.
"""

import logging
import os
import signal
import sys
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser  # the only parser of Hydra's own flags
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from twinnet import sweeps
from twinnet.core import config, paths
from twinnet.core.errors import exit_on_error
from twinnet.core.schema import Tracking
from twinnet.tracking import live

log = logging.getLogger(__name__)


def job(composed: DictConfig) -> None:
    """Train one experiment and draw it."""
    from twinnet.compare.draw import draw_run
    from twinnet.training.experiment import train

    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    with exit_on_error():
        experiment = config.experiment(composed)
        tracker = live.tracker(config.tracking(composed.tracking))
        overrides = list(hydra_config.overrides.task)
        for line in config.overruled(paths.root(), overrides, experiment).values():
            log.warning("%s", line)
        train(experiment, directory, tracker=tracker, overrides=overrides, draw=draw_run)
    log.info("the run lies in %s", directory)


def main() -> None:
    """Validate the overrides, then start Hydra."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sweeps.silence_launcher_warning()
    with exit_on_error():
        root = paths.root()
        parser = get_args_parser()
        arguments = parser.parse_args()
        words = arguments.overrides
        is_plain = vars(arguments) == vars(parser.parse_args(words)) and not any("hydra.mode" in word for word in words)
        tracking = Tracking(enabled=False)
        shows_help = arguments.help or arguments.hydra_help
        if (arguments.multirun or arguments.cfg or arguments.info) and not shows_help:  # before Hydra's pages of errors
            composed = config.compose(root, "train", words, skip_swept=arguments.multirun)
            if arguments.multirun:  # twinnet.sweeps checks each job
                tracking = config.tracking(composed.tracking)
        os.chdir(root)
    try:
        with exit_on_error(), live.keep_follower(tracking):
            if is_plain:
                config.run(root, "train", words, job)
            else:
                hydra.main(version_base="1.3", config_path=str(root / "conf"), config_name="train")(job)()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
