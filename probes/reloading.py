"""Reading the configuration again while the service runs."""

import logging
import threading
from pathlib import Path

from probes.config import load_config
from probes.metrics import ReloadState
from probes.scheduling import Scheduler
from probes.watch import Watch
from sif_offline.fingerprint.errors import SifError

logger = logging.getLogger(__name__)


class Reloader:
    """Reads the file again when it is called; ``state`` says how that went.

    The new configuration is checked as a whole, its pack, keys and credentials too, before the old one ends.
    """

    def __init__(self, path: Path, *, watch: Watch, scheduler: Scheduler) -> None:
        self.state = ReloadState()
        self._path, self._watch, self._scheduler = path, watch, scheduler
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Raises a SifError, and leaves everything as it was, where the file cannot be used."""
        with self._lock:
            try:
                config = load_config(self._path)
                self._watch.reload(config, self._scheduler)
            except SifError as error:
                self.state.failed()
                logger.error("the configuration was refused, the one before goes on: %s", error)
                raise
            self.state.succeeded()
            logger.info("reloaded: %d targets", len(self._watch.targets))
