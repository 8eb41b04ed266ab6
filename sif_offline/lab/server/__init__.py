"""OpenAI-compatible chat-completions server for one lab model."""

from sif_offline.lab.server.app import build_app
from sif_offline.lab.server.engine import Engine
from sif_offline.lab.server.run import ServeError, bind, serve, serve_in_thread

__all__ = ["Engine", "ServeError", "bind", "build_app", "serve", "serve_in_thread"]
