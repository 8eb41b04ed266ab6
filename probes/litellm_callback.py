"""A watch inside a LiteLLM proxy.

    litellm_settings:
      callbacks: [prometheus, probes.litellm_callback.monitor]

The environment variable ``SIF_PROBES_CONFIG`` names the probes' YAML file. Targets whose model is
``proxy/ALIAS`` are asked through the proxy's own router. All but the aliases is checked while the proxy
starts: what goes wrong in loading a callback stops the start, and the log says what it was.
"""

import asyncio
import functools
import logging
import os
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from prometheus_client import REGISTRY, CollectorRegistry, multiprocess
from prometheus_client.registry import Collector

from probes.config import ConfigError, ProbesConfig, TargetConfig, load_config
from probes.fingerprints.sif import make_target
from probes.litellm_router import PREFIX, alias_problem, alias_warning, make_router_target
from probes.scheduling import APSchedulerScheduler, Scheduler
from probes.service import STOP_GRACE_S, watch_collector
from probes.targets import Target
from probes.watch import Watch

logger = logging.getLogger(__name__)

VARIABLE = "SIF_PROBES_CONFIG"
ROUTER_POLL_S = 0.2


class ProbesMonitor(CustomLogger):  # type: ignore[misc]  # litellm is not typed for us
    """Runs a watch for as long as the proxy runs; as a logger of the proxy's calls it does nothing.

    Make it on the proxy's event loop, while the proxy starts. Raises a SifError where the configuration, the
    pack, the keys, a credential or the store cannot be used.
    """

    def __init__(self, config: ProbesConfig, *, scheduler: Scheduler | None = None) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._scheduler = scheduler or APSchedulerScheduler()
        self._watch = Watch.open(config, make=self._make)
        self._collector = watch_collector(self._watch, guest=True)
        REGISTRY.register(self._collector)
        _before_shutdown(self)
        self._beginning = self._loop.create_task(self._begin())
        self._beginning.add_done_callback(_log_what_went_wrong)

    def close(self) -> None:
        """Stop the watch. Blocks until the questions on their way are back, or the grace is over."""
        self._watch.stop.set()
        if not self._scheduler.stop(grace_s=STOP_GRACE_S):
            logger.warning("stopped while a question was on its way; it will be put in doubt")
        REGISTRY.unregister(self._collector)
        self._watch.close()

    async def stop(self) -> None:
        """Close from the proxy's event loop, which the questions on their way still need."""
        self._beginning.cancel()
        await asyncio.to_thread(self.close)

    def _make(self, target: TargetConfig) -> Target:
        if target.model.startswith(PREFIX):
            return make_router_target(target, router=_router, loop=self._loop)
        return make_target(target)

    async def _begin(self) -> None:
        """Callbacks are loaded before the router is made: wait for it, then run."""
        while (router := _router()) is None:
            await asyncio.sleep(ROUTER_POLL_S)
        for target in self._watch.config.targets:
            if target.model.startswith(PREFIX):
                alias = target.model.removeprefix(PREFIX)
                problem = alias_problem(router, alias)
                if problem is not None:
                    logger.error("target %s: %s", target.name, problem)
                elif (warning := alias_warning(router, alias)) is not None:
                    logger.warning("target %s: %s", target.name, warning)
        show_on_metrics_page(self._collector)
        self._watch.schedule(self._scheduler)
        self._scheduler.start()
        logger.info("watching %d targets", len(self._watch.targets))


def _router() -> Any:
    from litellm.proxy import proxy_server

    return proxy_server.llm_router


def _before_shutdown(monitor: ProbesMonitor) -> None:
    """Stop with the proxy: its lifespan has begun, so what is left is the function it looks up at its end."""
    from litellm.proxy import proxy_server

    shut_down = proxy_server.proxy_shutdown_event

    @functools.wraps(shut_down)
    async def stop_first(*arguments: Any, **named: Any) -> None:
        try:
            await monitor.stop()
        finally:
            await shut_down(*arguments, **named)

    proxy_server.proxy_shutdown_event = stop_first


def show_on_metrics_page(collector: Collector) -> None:
    """Put a collector on the proxy's /metrics where LiteLLM would not read it from the default registry.

    With several workers that page reads the files of counters that prometheus_client keeps, and no collector.
    """
    from litellm.integrations.prometheus_metrics_endpoint import make_metrics_asgi_app
    from litellm.proxy import proxy_server

    pages = [route for route in proxy_server.app.routes if getattr(route, "path", None) == "/metrics"]
    if not pages:
        logger.warning('no metrics: the proxy has no /metrics without "prometheus" in its callbacks')
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(collector)
        for page in pages:
            page.app = make_metrics_asgi_app(registry)


def _log_what_went_wrong(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the watch did not start: %s", error, exc_info=error)


@functools.cache
def _monitor() -> ProbesMonitor:
    """One a process, whatever the proxy reloads."""
    file = os.environ.get(VARIABLE, "")
    if not file:
        raise ConfigError(f"{VARIABLE} is not set: it names the probes' YAML file")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError("probes.litellm_callback.monitor is for a LiteLLM proxy's callbacks") from None
    return ProbesMonitor(load_config(Path(file)))


def __getattr__(name: str) -> Any:
    """``monitor`` is made when LiteLLM asks for it; importing this module starts nothing."""
    if name == "monitor":
        return _monitor()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
