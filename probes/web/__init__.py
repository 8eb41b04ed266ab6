"""The pages for people: plain HTML and SVG from the server, readable without JavaScript."""

from probes.web.router import routes

__all__ = ["routes"]
