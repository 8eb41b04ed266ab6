"""Closing the gateway when a LiteLLM proxy ends.

uvicorn ends the process by the very signal that it was stopped with, so no ``atexit`` handler runs, and a
guardrail is made after the application's lifespan has begun. What is left is the proxy's own shutdown, which
its lifespan looks up by name when it ends.
"""

import asyncio
import functools
import weakref
from typing import Any

from gateway_plugin.engine import Gateway


def close_with_proxy(gateway: Gateway) -> None:
    """Close ``gateway``, if it still lives, before the proxy shuts down."""
    from litellm.proxy import proxy_server

    shut_down, alive = proxy_server.proxy_shutdown_event, weakref.ref(gateway)

    @functools.wraps(shut_down)
    async def close_first(*arguments: Any, **named: Any) -> None:
        gateway = alive()
        if gateway is not None:
            await asyncio.to_thread(gateway.close)
        await shut_down(*arguments, **named)

    proxy_server.proxy_shutdown_event = close_first
