"""A scriptable endpoint that answers queries with numbers, over every protocol of the MetaV targets.

For tests, and to try a configuration before a suspect is asked: a model is any function of a query.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import numpy as np

from probes.testing.faulty_server import FaultyServer, WireFault, WireOptions
from sif_offline.fingerprint.metav.pack import Query

MetaVFault = (
    WireFault
    | Literal[
        "not_output",  # JSON of another kind
        "nan",  # NaN among the numbers, as Python writes it
        "strings",  # a text among the numbers
        "wrong_shape",  # numbers that are not of the shape that is said, or rows of different lengths
        "wrong_size",  # one number fewer
    ]
)

Model = Callable[[Query], Sequence[float]]

_INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")
_PREDICT = re.compile(r"/v1/models/[^/:]+(/versions/[^/:]+)?:predict")


@dataclass(frozen=True)
class MetaVQuestion:
    """What one request asked: where, the query, and the headers, names in lower case. ``query`` is None where
    the request holds none.
    """

    path: str
    query: Query | None
    body: Any = field(repr=False)
    headers: dict[str, str] = field(repr=False)


class MetaVEndpoint(FaultyServer[MetaVQuestion, MetaVFault]):
    """Serves a function of a query in a thread of this process; use as a context manager.

    Under ``root``: ``/v2/models/NAME/infer`` (KServe v2), ``/v1/models/NAME:predict`` (KServe v1),
    ``/v1/embeddings``, and for plain JSON with the query under ``data``: ``/array`` (``predictions``: a list
    of one array), ``/mapping`` (label to number), ``/scored`` (a list of label and score) and ``/label`` (the
    label of the largest number).

    Args:
        function: the model: a float32 array of the shape that was sent, or a text, to numbers. What it raises
            as a ValueError is answered with status 400.
        labels: of its numbers; their positions where left out.
        top: how many labels ``/mapping`` and ``/scored`` give; all where left out.
        packed: embeddings come as base64, whatever was asked for.
        model: what it says it is.
        faults, wire: see ``FaultyServer``.
    """

    def __init__(
        self,
        function: Model,
        *,
        faults: Iterable[MetaVFault | None] = (),
        labels: Sequence[str] = (),
        top: int | None = None,
        packed: bool = False,
        model: str = "scripted",
        **wire: Unpack[WireOptions],
    ) -> None:
        self.function = function
        self.labels = labels
        self.top = top
        self.packed = packed
        self.model = model
        super().__init__(faults=faults, **wire)

    def read(self, path: str, headers: dict[str, str], body: Any) -> MetaVQuestion:
        """See ``FaultyServer``."""
        try:
            query = _query(path, body)
        except (LookupError, TypeError, ValueError):
            query = None
        return MetaVQuestion(path, query, body, headers)

    def reply(self, question: MetaVQuestion) -> tuple[int, Any]:
        """See ``FaultyServer``."""
        if question.query is None:
            return 400, {"error": "no query where this protocol has it"}
        try:
            return 200, self._said(question, [float(number) for number in self.function(question.query)])
        except ValueError as error:
            return 400, {"error": str(error)}

    def large(self) -> Any:
        """See ``FaultyServer``."""
        return {"predictions": "0.5," * 2_500_000}

    def misbehave(self, fault: MetaVFault, question: MetaVQuestion, said: Any) -> tuple[int, bytes, str]:
        """See ``FaultyServer``."""
        query = question.query
        numbers: list[Any] = [] if query is None else [float(number) for number in self.function(query)]
        if fault == "not_output":
            said = {"status": "ok"}
        elif fault == "nan":
            said = self._said(question, [float("nan"), *numbers[1:]])
        elif fault == "strings":
            said = self._said(question, ["0.5", *numbers[1:]])
        elif fault == "wrong_shape":
            said = self._said(question, [[0.5, 0.5], *numbers[1:]])
        else:
            said = self._said(question, numbers[:-1])
        return 200, json.dumps(said).encode(), "application/json"

    def _said(self, question: MetaVQuestion, numbers: list[Any]) -> Any:
        path = question.path
        if _INFER.fullmatch(path):
            tensor = {"name": "output", "datatype": "FP64", "shape": [1, len(numbers)], "data": numbers}
            return {"model_name": self.model, "model_version": "1", "outputs": [tensor]}
        if _PREDICT.fullmatch(path) or path == "/array":
            return {"predictions": [numbers]}
        if path == "/v1/embeddings":
            return self._embedding(question, numbers)
        labels = self.labels or [str(number) for number in range(len(numbers))]
        pairs = list(zip(labels, numbers, strict=False))
        if path == "/label":
            return {"label": max(pairs, key=lambda pair: pair[1])[0]}
        if all(isinstance(number, int | float) for number in numbers):
            pairs.sort(key=lambda pair: -pair[1])
        pairs = pairs[: self.top]
        return dict(pairs) if path == "/mapping" else [{"label": label, "score": n} for label, n in pairs]

    def _embedding(self, question: MetaVQuestion, numbers: list[Any]) -> Any:
        data: Any = numbers
        if self.packed or question.body.get("encoding_format") == "base64":
            data = base64.b64encode(np.asarray(numbers, dtype="<f4").tobytes()).decode()
        row = {"object": "embedding", "index": 0, "embedding": data}
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return {"object": "list", "model": self.model, "data": [row], "usage": usage}


def _query(path: str, body: Any) -> Query:
    if _INFER.fullmatch(path):
        tensor = body["inputs"][0]
        return np.asarray(tensor["data"], dtype=np.float32).reshape(tensor["shape"][1:])
    if _PREDICT.fullmatch(path):
        found = body["instances"][0]
    else:
        found = body["input"][0] if path == "/v1/embeddings" else body["data"]
    return found if isinstance(found, str) else np.asarray(found, dtype=np.float32)
