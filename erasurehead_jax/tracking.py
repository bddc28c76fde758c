"""Where a run is reported besides its directory. Called on rank 0, after the clock has stopped."""

import logging
import netrc
import os
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import equinox as eqx

log = logging.getLogger(__name__)


class AbstractTracking(eqx.Module):
    """A place that takes a finished run."""

    @abstractmethod
    def report(
        self, run_dir: Path, config: dict[str, Any], rows: Iterable[dict[str, Any]], summary: dict[str, Any]
    ) -> None:
        """Sends the config, every column of history.csv and the summary."""


class NoTracking(AbstractTracking):
    """The run directory is enough."""

    def report(
        self, run_dir: Path, config: dict[str, Any], rows: Iterable[dict[str, Any]], summary: dict[str, Any]
    ) -> None:
        del run_dir, config, rows, summary


class Wandb(AbstractTracking):
    """Weights & Biases; offline (in the run directory, for `wandb sync`) unless the user is logged in.

    WANDB_MODE, WANDB_API_KEY and W&B's other variables mean what they always do. A failure to report is logged and
    does not fail the run.
    """

    project: str = "erasurehead-jax"

    def report(
        self, run_dir: Path, config: dict[str, Any], rows: Iterable[dict[str, Any]], summary: dict[str, Any]
    ) -> None:
        import wandb  # late: half a second to import

        settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, disable_git=True)
        try:
            with wandb.init(
                project=self.project,
                dir=run_dir,
                config=config,
                name=run_dir.name,
                mode=None if "WANDB_MODE" in os.environ or _logged_in() else "offline",
                settings=settings,
            ) as run:
                run.define_metric("clock_s", summary="none")  # the summary has the whole loop's, not the last row's
                for row in rows:
                    run.log({name: value for name, value in row.items() if name != "round"}, step=row["round"])
                run.summary.update(summary)
        except Exception as error:  # a dashboard that is down must not cost the run its results
            log.warning("tracking=wandb: the run was not reported (%s: %s)", type(error).__name__, error)


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
