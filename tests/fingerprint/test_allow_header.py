"""A signed header lets an owner's own query through, once, and nothing else."""

import copy
import hashlib
import hmac
import json
import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sif_offline.fingerprint.allow_header import (
    HEADER,
    AllowHeaderError,
    AllowList,
    Signer,
    json_pieces,
    secret_from_environment,
    sign,
)
from sif_offline.fingerprint.evidence.canonical import canonical_json

SECRET = b"an owner's secret, known to the gateway"
OTHER = b"another owner's secret, also well known"
NOW = 1_800_000_000.0
PICTURE = "data:image/png;base64," + "A" * 2000
BODY: dict[str, Any] = {
    "model": "main",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is \u732b?"},
                {"type": "image_url", "image_url": {"url": PICTURE}},
            ],
        },
    ],
    "temperature": 0.0,
}


def allow_list(*, clock: Callable[[], float] = lambda: NOW, **options: Any) -> AllowList:
    return AllowList({"owner": SECRET, "other": OTHER}, clock=clock, **options)


def header(body: Any = BODY, *, name: str = "owner", secret: bytes = SECRET, now: float = NOW) -> str:
    return sign(body, name=name, secret=secret, now=now)


def refusal(allowed: AllowList, value: Any, body: Any = BODY) -> str:
    with pytest.raises(AllowHeaderError) as caught:
        allowed.verify(value, body)
    return caught.value.reason


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        {"model": "m", "input": [{"role": "user", "content": "hi"}], "instructions": "Be brief."},
        {"model": "m", "input": ["one", "two"]},
        {"model": "m", "prompt": "hi"},
        {"model": "m", "system": "Be brief.", "messages": []},
    ],
    ids=["chat", "responses", "embeddings", "completions", "anthropic"],
)
def test_what_was_signed_passes(body: dict[str, Any]) -> None:
    assert allow_list().verify(header(body), body) == "owner"
    assert allow_list().verify(header(body, name="other", secret=OTHER), body) == "other"


def test_a_signer_signs_each_request_anew() -> None:
    signer, allowed = Signer("owner", SECRET, clock=lambda: NOW), allow_list()
    for _ in range(3):
        assert allowed.verify(signer.headers(BODY)["X-Sif-Allow"], BODY) == "owner"


def test_the_header_holds_the_fields_of_its_form() -> None:
    assert re.fullmatch(r"v1;owner;1800000000;[0-9a-f]{32};[0-9a-f]{64}", header())
    assert HEADER == "X-Sif-Allow"


def test_the_form_is_golden() -> None:
    """Both sides upgrade at different times: the same header, body and secret verify for ever."""
    golden = (
        "v1;owner;1800000000;00112233445566778899aabbccddeeff;"
        "24cc327f2415cb8b0a0624438cb047037fb6196cbd2516f00e64447106a30975"
    )
    body = {"messages": [{"content": "What is this?", "role": "user"}], "model": "main", "stream": True}
    assert allow_list().verify(golden, body) == "owner"


def test_what_a_proxy_adds_does_not_matter() -> None:
    sent = header()
    forwarded = copy.deepcopy(BODY) | {
        "metadata": {"user_api_key": "x", "nan": math.nan},
        "litellm_call_id": "1",
        "proxy_server_request": {"huge": 10**500},
        "stream": True,
        "input": None,
    }
    assert allow_list().verify(sent, forwarded) == "owner"


def _edit(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    body = copy.deepcopy(BODY)
    change(body)
    return body


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(model="other"),
        lambda body: body.pop("model"),
        lambda body: body["messages"][1]["content"][0].update(text="What is this?"),
        lambda body: body["messages"][1]["content"][1]["image_url"].update(url=PICTURE + "A"),
        lambda body: body["messages"][0].update(role="user"),
        lambda body: body["messages"].append({"role": "user", "content": "and this"}),
        lambda body: body["messages"].reverse(),
        lambda body: body["messages"].pop(),
        lambda body: body.update(input="also this"),
        lambda body: body.update(prompt="also this"),
        lambda body: body.update(system="also this"),
        lambda body: body.update(instructions="also this"),
    ],
)
def test_another_query_does_not_pass(change: Callable[[dict[str, Any]], Any]) -> None:
    assert refusal(allow_list(), header(), _edit(change)) == "signature"


def test_every_field_of_the_header_is_signed() -> None:
    _, name, timestamp, nonce, signature = header().split(";")
    flipped = "1" if signature[0] == "0" else "0"
    tampered = {
        f"v1;other;{timestamp};{nonce};{signature}": "signature",
        f"v1;nobody;{timestamp};{nonce};{signature}": "signature",
        f"v1;{name};{int(timestamp) + 1};{nonce};{signature}": "signature",
        f"v1;{name};{timestamp};{'0' * 32};{signature}": "signature",
        f"v1;{name};{timestamp};{nonce};{flipped}{signature[1:]}": "signature",
        f"v2;{name};{timestamp};{nonce};{signature}": "malformed",
        f"v1;{name};{timestamp};{nonce};{signature.upper()}X": "malformed",
    }
    for value, reason in tampered.items():
        assert refusal(allow_list(), value) == reason


def test_a_secret_signs_for_its_own_name_alone() -> None:
    assert refusal(allow_list(), header(name="owner", secret=OTHER)) == "signature"


def test_an_unknown_name_reads_like_a_wrong_signature() -> None:
    said = set()
    for value in (header(name="nobody"), header(secret=OTHER)):
        with pytest.raises(AllowHeaderError) as caught:
            allow_list().verify(value, BODY)
        said.add(str(caught.value))
    assert len(said) == 1


def test_a_header_passes_once() -> None:
    allowed, value = allow_list(), header()
    assert allowed.verify(value, BODY) == "owner"
    assert refusal(allowed, value) == "replay"
    assert allowed.verify(header(), BODY) == "owner"
    assert allow_list().verify(value, BODY) == "owner"  # per process, as the module says


def test_a_header_passes_once_in_many_threads() -> None:
    allowed, value = allow_list(), header()
    passed: list[str] = []
    start = threading.Barrier(8)

    def use() -> None:
        start.wait()
        try:
            passed.append(allowed.verify(value, BODY))
        except AllowHeaderError as error:
            assert error.reason == "replay"  # noqa: PT017 - in a thread

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == ["owner"]


@pytest.mark.parametrize(("skew", "passes"), [(-121, False), (-119, True), (119, True), (121, False)])
def test_the_clocks_may_differ_by_the_window(skew: float, passes: bool) -> None:
    value = header(now=NOW + skew)
    if passes:
        assert allow_list().verify(value, BODY) == "owner"
    else:
        assert refusal(allow_list(), value) == "expired"


@pytest.mark.parametrize("skew", [-60, 0, 60, 120])
def test_no_moment_lets_a_header_pass_again(skew: float) -> None:
    """Also one from a fast clock, which stays inside the window for longer."""
    now = [NOW]
    allowed = allow_list(clock=lambda: now[0])
    value = header(now=NOW + skew)
    allowed.verify(value, BODY)
    for _ in range(100):
        now[0] += 5
        allowed.verify(header(now=now[0]), BODY)  # later traffic makes the memory forget
        assert refusal(allowed, value) in ("replay", "expired")


def test_no_header_passes_that_expires_while_its_body_is_read() -> None:
    """Another thread may have forgotten its nonce by then."""
    times = iter([NOW + 119, NOW + 121])
    assert refusal(allow_list(clock=lambda: next(times)), header()) == "expired"


def test_the_memory_is_bounded_and_frees_itself() -> None:
    now = [NOW]
    allowed = allow_list(clock=lambda: now[0], max_nonces=3)
    for _ in range(3):
        allowed.verify(header(), BODY)
    assert refusal(allowed, header()) == "full"
    assert refusal(allowed, header(secret=OTHER)) == "signature"  # and who has no secret cannot fill it
    now[0] += 121
    for _ in range(3):
        allowed.verify(header(now=now[0]), BODY)


CYCLE: dict[str, Any] = {"model": "m", "messages": []}
CYCLE["messages"].append(CYCLE)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]
HOSTILE: dict[str, Any] = {
    "a fraction": {"messages": [0.5]},
    "nan": {"messages": [math.nan]},
    "infinity": {"messages": [math.inf]},
    "huge integer": {"messages": [10**5000]},
    "huge integer as a name": {"messages": [{10**5000: 1}]},
    "surrogate": {"messages": ["\ud800"]},
    "surrogate as a name": {"messages": [{"\udfff": 1, "a": 2}]},
    "a name beyond ASCII": {"messages": [{"\u00e9": 1}]},
    "names of two types": {"messages": [{1: 1, "a": 2}]},
    "bytes": {"messages": b"bytes"},
    "an object": {"messages": object()},
    "a cycle": CYCLE,
    "deep": {"messages": DEEP},
    "wide": {"messages": [0] * 20_000},
    "wide names": {"messages": [dict.fromkeys(map(str, range(20_000)))]},
    "no query": {"model": "m"},
    "nothing": {},
    "a list": [1],
    "None": None,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_refused_and_nothing_more(body: Any) -> None:
    assert refusal(allow_list(), header(), body) == "body"
    with pytest.raises(AllowHeaderError):
        header(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"model": "m", "prompt": "\u00e9\n" * 2**19}, "signature"),
        ({"model": "m", "prompt": "\x00" * 2**20}, "signature"),
        ({"model": "m", "messages": [{"\x00" * 200: "y"}] * 4900}, "signature"),
        ({"model": "m", "input": list(range(350_000))}, "body"),
        ({"model": "m", "input": [[[[[[]]]]]] * 150_000}, "body"),
    ],
    ids=["text", "controls", "names", "many values", "nested values"],
)
def test_a_megabyte_takes_bounded_time(body: dict[str, Any], reason: str) -> None:
    """Processor time; 20 ms or less each on one busy core."""
    value = header()
    began = time.process_time()
    assert refusal(allow_list(), value, body) == reason
    assert time.process_time() - began < 0.25


def test_more_than_any_picture_is_refused_unread() -> None:
    assert refusal(allow_list(), header(), {"model": "m", "prompt": "x" * (2**25 + 1)}) == "body"


def test_a_large_query_is_encoded_in_small_pieces() -> None:
    """Encoding in one piece holds up an event loop even from another thread."""
    query = {"prompt": '\u732b"\n' * 400_000, "messages": [{"b": 1, "a": ["x" * 10**6, 0.5, None, True]}]}
    for ensure_ascii in (False, True):
        pieces = list(json_pieces(query, ensure_ascii=ensure_ascii))
        expected = json.dumps(query, ensure_ascii=ensure_ascii, sort_keys=True, separators=(",", ":"))
        assert "".join(pieces) == expected
        assert max(map(len, pieces)) <= 6 * 2**18


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="ascii")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
@example('\b\t\n\f\r"\\/\x00\x1f\x7f\u2028\U0001f600')
def test_the_signed_form_is_that_of_rfc_8785(query: Any) -> None:
    """Anybody's canonical JSON makes the same header: here the one that evidence is signed with."""
    body = {"model": "m", "messages": [query]}
    _, name, timestamp, nonce, signature = header(body).split(";")
    digest = hashlib.sha256(canonical_json(body)).hexdigest()
    fields = {"v": 1, "name": name, "timestamp": int(timestamp), "nonce": nonce, "body_digest": digest}
    assert hmac.new(SECRET, canonical_json(fields), hashlib.sha256).hexdigest() == signature


parts = st.one_of(
    st.sampled_from(["v1", "owner", "1800000000", "00" * 16, "00" * 32, "", "-1", "1e9", "\u0661", "\n"]),
    st.text(max_size=70),
)


@given(st.one_of(st.lists(parts, max_size=7).map(";".join), st.text()))
@example("v1;owner;1800000000;" + "0" * 32 + ";" + "0" * 64)
@example("v1;owner;1800000000;" + "0" * 32 + ";" + "0" * 64 + "\n")
@example("v1;owner;\u0661800000000;" + "0" * 32 + ";" + "0" * 64)
@example("v1;owner;" + "9" * 5000 + ";" + "0" * 32 + ";" + "0" * 64)
def test_no_made_up_header_passes_or_breaks(value: str) -> None:
    """A false alarm would be a forged HMAC: 2 to the -256."""
    assert refusal(allow_list(), value) in ("malformed", "expired", "signature")


@pytest.mark.parametrize("value", [None, b"v1", 3, ["v1"]])
def test_a_header_that_is_no_text(value: Any) -> None:
    assert refusal(allow_list(), value) == "malformed"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_query_is_signed_and_passes_or_is_refused_on_both_sides(query: Any) -> None:
    body = {"model": "m", "messages": query}
    allowed = allow_list()
    try:
        value = header(body)
    except AllowHeaderError as error:
        assert error.reason == "body"  # noqa: PT017 - either way is right
        assert refusal(allowed, header(), body) == "body"
    else:
        assert allowed.verify(value, body) == "owner"


@pytest.mark.parametrize("name", ["", "a;b", "a b", "\u00e9", "a\n", "x" * 65])
def test_names_that_a_header_cannot_hold(name: str) -> None:
    with pytest.raises(AllowHeaderError, match="needs a name of letters"):
        header(name=name)
    with pytest.raises(AllowHeaderError, match="needs a name of letters"):
        AllowList({name: SECRET})


def test_short_secrets_are_refused() -> None:
    with pytest.raises(AllowHeaderError, match="at least 32 bytes") as caught:
        header(secret=b"s3cret" * 5)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(AllowHeaderError, match="at least 32 bytes"):
        AllowList({"owner": b"x" * 31})
    assert AllowList({"owner": b"x" * 32})


def test_a_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIF_ALLOW_SECRET", f" {SECRET.decode()}\n")
    assert secret_from_environment("SIF_ALLOW_SECRET") == SECRET
    monkeypatch.setenv("SIF_ALLOW_SECRET", "too short")
    with pytest.raises(AllowHeaderError, match=r"^environment variable SIF_ALLOW_SECRET: needs"):
        secret_from_environment("SIF_ALLOW_SECRET")
    monkeypatch.delenv("SIF_ALLOW_SECRET")
    with pytest.raises(AllowHeaderError, match=r"^environment variable SIF_ALLOW_SECRET: needs"):
        secret_from_environment("SIF_ALLOW_SECRET")


def test_no_secret_shows() -> None:
    allowed = allow_list()
    assert repr(Signer("owner", SECRET)) == "Signer(name='owner')"
    assert repr(allowed) == "AllowList(names=['other', 'owner'], window_s=120)"
    assert "secret" not in str(allowed)
