"""Secrets of a target out of what it says."""

import json
import re
from collections.abc import Mapping

from pydantic import SecretStr

SHORTEST = 6
"""Characters of a secret; placeholders ("none", "x") are none, and replacing them would garble a message."""
SHORTEST_IN_REPLIES = 16
"""Likewise in an answer, whose words are evidence: a shorter header ("team: research") is one of them."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
"""A string of JSON, escapes and all."""


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

    def in_json(self, text: str) -> str:
        """JSON with none of them of 16 characters or more in any string or name, however deep it lies."""
        return _STRING.sub(lambda found: json.dumps(self._in_reply(json.loads(found[0]))), text)

    def _in_reply(self, said: str) -> str:
        for secret in self._secrets:
            if len(secret) >= SHORTEST_IN_REPLIES:
                said = said.replace(secret, "***")
        return said
