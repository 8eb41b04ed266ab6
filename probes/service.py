"""The probes' HTTP service: /metrics, /health, /probe?target=NAME, and pages for people at /."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from probes.metrics import StoreCollector, package_version
from probes.scheduling import APSchedulerScheduler, Scheduler
from probes.store import StoreError
from probes.watch import Watch
from probes.web import routes

logger = logging.getLogger(__name__)

STOP_GRACE_S = 10.0
"""How long a stop waits for questions on their way, seconds; what is still out then is put in doubt."""


def create_app(watch: Watch, *, scheduler: Scheduler | None = None) -> FastAPI:
    """The service over an open watch; the scheduler starts and stops with the application.

    The caller closes the watch. No request names a URL: ``/probe`` takes a configured name only.
    """
    planned = scheduler or APSchedulerScheduler()
    registry = CollectorRegistry()
    registry.register(StoreCollector(watch.store, monitors=list(watch.runners), pack_id=watch.pack.pack_id))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch.schedule(planned)
        planned.start()
        yield
        watch.stop.set()
        if not planned.stop(grace_s=STOP_GRACE_S):
            logger.warning("stopped while a question was on its way; it will be put in doubt")

    app = FastAPI(
        title="sifwatch probes", version=package_version(), lifespan=lifespan, docs_url=None, redoc_url=None
    )

    @app.exception_handler(StoreError)
    async def store_failed(_: Request, error: Exception) -> Response:
        logger.error("%s", error)
        return JSONResponse({"detail": "the store cannot be read"}, status_code=503)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health")
    def health() -> Response:
        with watch.store.reading() as session:
            session.connection()
        return PlainTextResponse("ok\n")

    @app.get("/probe")
    def probe(target: str) -> Response:
        if target not in watch.targets:
            raise HTTPException(404, "no such target is configured")
        reached = watch.reach(target)
        return JSONResponse(asdict(reached), status_code=200 if reached.reachable else 503)

    app.include_router(routes(watch, planned))
    return app
