"""One replica of the watch that ``benchmarks.probes.replicas`` starts several of.

    python -m benchmarks.probes.replica CONFIG STORE_URL INTERVAL_S

The store, the rounds and the scheduler are the service's; the target is a plain one, for litellm takes
seconds to import, and there is no web server. It writes a JSON line when a round begins and when it ends.
"""

import json
import signal
import sys
import threading
from pathlib import Path

from probes.config import load_config
from probes.material import Material, round_settings
from probes.rounds import RoundRunner, sif_runner
from probes.scheduling.dbos_scheduler import DbosScheduler
from probes.store import open_store
from probes.testing.plain_target import PlainTarget

PARALLEL = 6


def main() -> None:
    config_path, store_url, interval_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    config = load_config(config_path)
    scorer = Material.read(config).scorer
    stop, writing = threading.Event(), threading.Lock()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def say(**line: object) -> None:
        with writing:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def job(runner: RoundRunner, name: str) -> None:
        say(began=name)
        summary = runner.run()
        say(ended=name, state=summary.state if summary else None)

    with open_store(store_url) as store:
        scheduler = DbosScheduler(store_url, parallel=PARALLEL, poll_s=0.2, look_s=2.0)
        for target in config.targets:
            runner = sif_runner(
                target=PlainTarget(name=target.name, url=str(target.api_base)),
                scorer=scorer,
                store=store,
                settings=round_settings(config, target),
                stop=stop,
            )
            scheduler.every(
                name=target.name,
                interval_s=interval_s,
                first_in_s=0.0,
                jitter_s=interval_s / 2,
                job=lambda runner=runner, name=target.name: job(runner, name),  # type: ignore[misc]
            )
        scheduler.start()
        stop.wait()
        scheduler.stop(grace_s=20)


if __name__ == "__main__":
    main()
