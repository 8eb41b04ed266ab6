"""Secrets of a target out of what it says."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

SHORTEST = 6
"""Characters of a secret; placeholders ("none", "x") are none, and replacing them would garble a message."""
SHORTEST_IN_REPLIES = 16
"""Likewise in an answer, whose words are evidence: a shorter header ("team: research") is one of them."""


class Redaction:
    """Replaces a credential and the values of headers, whole or their words, by ``***``.

    Args:
        api_key: the credential, or None.
        headers: extra HTTP headers; a value may hold a credential behind another word ("Bearer ...").
    """

    def __init__(self, *, api_key: SecretStr | None, headers: Mapping[str, str]) -> None:
        words = [word for value in headers.values() for word in (value, *value.split())]
        if api_key is not None:
            words.append(api_key.get_secret_value())
        self._secrets = sorted({word for word in words if len(word) >= SHORTEST}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without them; to be done before it is cut, or half of one could be left at its end."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def reply(self, reply: Any) -> Any:
        """Parsed JSON with none of them of 16 characters or more in any string or name, at any depth."""
        if isinstance(reply, str):
            for secret in self._secrets:
                if len(secret) >= SHORTEST_IN_REPLIES:
                    reply = reply.replace(secret, "***")
            return reply
        if isinstance(reply, dict):
            return {self.reply(name): self.reply(value) for name, value in reply.items()}
        return [self.reply(value) for value in reply] if isinstance(reply, list) else reply
