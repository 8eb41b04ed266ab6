"""What is read out of a query and an answer, and what is shown of them."""

import base64
import random
from typing import Any

import pytest

from gateway_plugin.calls import CallState
from gateway_plugin.exchange import Exchange, query_images, query_texts, why_not_replaceable
from gateway_plugin.reference import ReferenceAnswer
from gateway_plugin.screening.base import Asked, Query
from gateway_plugin.wire.queries import ReadQuery


def test_a_query_and_an_answer_are_in_nobodys_repr() -> None:
    query = Query(texts=("a secret",))
    shown = [
        query,
        Asked(query=query),
        ReferenceAnswer(text="a secret"),
        ReadQuery(texts=("a secret",), messages=({"content": "a secret"},)),
        CallState(born=0.0, audit_id="", messages=({"content": "a secret"},)),
    ]
    assert "a secret" not in repr(shown)


def test_a_role_that_nobody_knows_is_scored() -> None:
    roles = ["system", "User", "human", None, "tool", "function", "assistant", "user"]
    turns = tuple({"role": role, "content": str(role)} for role in roles)
    texts, _ = query_texts(Exchange(call="", messages=turns))
    assert texts == ("system", "User", "human", "None", "user")
    assert query_texts(Exchange(call="", messages=turns), transcript="last")[0] == ("system", "user")


def test_large_pictures_are_decoded_as_they_were() -> None:
    def decoded(body: str) -> tuple[bytes, ...]:
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{body}"}}
        return query_images(Exchange(call="", messages=({"role": "user", "content": [part]},)))

    for size in (0, 1, 786_432, 786_433, 2_000_000):
        data = random.Random(size).randbytes(size)
        assert decoded(base64.b64encode(data).decode()) == (data,)
    middle = base64.b64encode(b"a" * 786_431).decode()  # ends in one "="
    assert decoded(middle + "QUJD") == ()
    assert decoded("QUJD*") == ()


@pytest.mark.parametrize(
    ("answer", "request_", "why"),
    [
        ({"answers": ("a",)}, {"model": "m", "n": 1, "response_format": {"type": "text"}}, ""),
        ({"answers": ("a",)}, {"text": {"format": {"type": "text"}}}, ""),
        ({"answers": ("a",), "has_tool_calls": True}, {}, "tools are in play"),
        ({"answers": ("a",)}, {"response_format": {"type": "json_object"}}, "a response format is asked for"),
        (
            {"answers": ("a",)},
            {"text": {"format": {"type": "json_schema"}}},
            "a response format is asked for",
        ),
        ({"answers": ("a",)}, {"output_config": {"effort": "low"}}, ""),
        (
            {"answers": ("a",)},
            {"output_config": {"format": {"type": "json_schema"}}},
            "a response format is asked for",
        ),
        ({"answers": ("a",)}, {"guided_json": {}}, "a response format is asked for"),
        ({"answers": ("a",)}, {"logprobs": True}, "log-probabilities are asked for"),
        (
            {"answers": ("a",)},
            {"include": ["message.output_text.logprobs"]},
            "log-probabilities are asked for",
        ),
        ({"answers": ("a", "b")}, {}, "several choices are asked for"),
    ],
)
def test_answers_that_a_plain_text_must_not_replace(
    answer: dict[str, Any], request_: dict[str, Any], why: str
) -> None:
    assert why_not_replaceable(Exchange(call="", request=request_, **answer)) == why
