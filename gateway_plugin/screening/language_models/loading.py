"""One way in: a language model by its specification, loaded once a process."""

from functools import lru_cache
from typing import Literal, get_args

from gateway_plugin.screening.language_models.base import LanguageModel, LanguageModelError, Precision
from gateway_plugin.screening.language_models.server import ServerLM
from gateway_plugin.screening.language_models.smollm2 import shared_language_model
from gateway_plugin.screening.language_models.transformers_lm import load_transformers_lm

FORMS = "smollm2, transformers:FOLDER_OR_NAME, openai:URL#MODEL or vllm:URL#MODEL"


def load_language_model(
    spec: str,
    *,
    precision: Precision = "auto",
    timeout_s: float = 10.0,
    opening: str = "\n",
    api_key: str | None = None,
) -> LanguageModel:
    """The language model that ``spec`` names; models in this process are loaded once and shared.

    Args:
        spec: ``smollm2`` (comes with the package); ``transformers:FOLDER_OR_NAME``;
            ``openai:URL#MODEL``, a server that answers ``echo`` with ``logprobs``; ``vllm:URL#MODEL``,
            one that answers ``prompt_logprobs``. URL is the API's base, ``http://host:8000/v1``.
        precision: of a model in this process: ``bf16``, ``fp32``, ``int8``, or ``auto``: of ``smollm2`` int8
            where the processor has 8-bit products (VNNI), else bf16.
        timeout_s: for one call of a server. A server is first asked when a text is scored.
        opening: what a server puts in front of each text, see :class:`ServerLM`.
        api_key: of a server.

    Raises:
        LanguageModelError: one line that names what is missing or wrong.
    """
    if precision not in get_args(Precision):
        raise LanguageModelError(f"precision {precision!r} is none of {', '.join(get_args(Precision))}")
    kind, _, rest = spec.partition(":")
    if spec == "smollm2":
        return shared_language_model(precision)
    if kind == "transformers" and rest:
        return _transformers(rest, precision)
    if kind in {"openai", "vllm"} and rest:
        url, _, model = rest.partition("#")
        if not model:
            raise LanguageModelError(f"{kind}: the model's name is missing, {kind}:URL#MODEL")
        form: Literal["echo", "prompt_logprobs"] = "echo" if kind == "openai" else "prompt_logprobs"
        return ServerLM(url, model=model, form=form, opening=opening, api_key=api_key, timeout_s=timeout_s)
    raise LanguageModelError(f"language model {kind!r} is not known: {FORMS}")


@lru_cache(maxsize=2)
def _transformers(name: str, precision: Precision) -> LanguageModel:
    return load_transformers_lm(name, precision=precision)
