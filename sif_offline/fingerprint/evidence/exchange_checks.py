"""Whether single exchanges are what they say: asked as committed, and set down as what they were."""

from collections.abc import Mapping
from typing import Any, get_args

from sif_offline.fingerprint.evidence.commitment import Leaf
from sif_offline.fingerprint.evidence.transcript import ANSWERED, Exchange
from sif_offline.fingerprint.replies import ReplyKind, classify_reply

_REQUEST = {"model", "endpoint", "image_sha256", "prompt", "max_tokens", "temperature"}
_SILENT = ("failed:", "in_doubt:")


def request_faults(item: Exchange, leaf: Leaf, *, max_tokens: int) -> list[str]:
    """How the request differs from what was committed: picture, prompt, greedy decoding, and no word more."""
    if item.request is None:
        return ["the request is no longer held"]
    asked, faults = item.asked, []
    if asked.get("prompt") not in leaf.wordings:
        wanted = "a committed wording" if leaf.variants else "the committed one"
        faults.append(f"the prompt asked is not {wanted} of trigger {leaf.trigger_id}")
    if asked.get("image_sha256") != (leaf.clean_sha256 if item.record.control else leaf.trigger_sha256):
        faults.append(f"the picture sent is not the committed one of trigger {leaf.trigger_id}")
    if asked.get("max_tokens") != max_tokens:
        faults.append(f"asked for {asked.get('max_tokens')} tokens, not the committed number")
    if asked.get("temperature") != 0:
        faults.append("asked at another temperature than 0")
    if asked.keys() != _REQUEST:
        faults.append("the request holds other fields than what was committed asks for")
    return faults


def reply_faults(item: Exchange) -> list[str]:
    """How the outcome set down differs from the reply that is held.

    Every answer has to be scored and nothing else, or answers could be chosen by what they say: what counts
    as an answer follows from the reply, by the rules that the policy names.
    """
    outcome = item.record.outcome
    if outcome.startswith(_SILENT):
        return []
    if outcome not in get_args(ReplyKind):
        return ["an outcome that there is not"]
    if item.response is None:
        return ["the answer is no longer held"] if outcome == ANSWERED else []
    if item.text is None and outcome == ANSWERED:
        return ["an answer without a text"]
    choice = item.raw_choice
    if choice is None:
        return ["no raw reply to hold the text against"]
    if not item.text_is_raw:
        return ["the text is not that of the raw response"]
    found = _kind(item, choice)
    return [] if outcome == found else [f"set down as {outcome}, but the reply is {found}"]


def _kind(item: Exchange, choice: Mapping[str, Any]) -> str:
    message, wanted, used = choice["message"], item.asked.get("max_tokens"), item.completion_tokens
    text = message.get("content")
    return classify_reply(
        text=text if isinstance(text, str) else "",
        finish_reason=str(choice.get("finish_reason") or ""),
        refused=bool(message.get("refusal")),
        completion_tokens=used if isinstance(used, int) else None,
        max_tokens=wanted if isinstance(wanted, int) else 0,
    )
