"""The gateway's scripted upstream, for the tests here too."""

from tests.gateway.conftest import upstream

__all__ = ["upstream"]
