"""Endpoints that answer the queries of a MetaV pack, over HTTP."""

from probes.targets.metav.codec import Codec, Decoded, NotOutputError, QueryError, Request
from probes.targets.metav.making import codec_of, make_metav_target
from probes.targets.metav.target import MetaVTarget, OutputKind, classify_output, output_of

__all__ = [
    "Codec",
    "Decoded",
    "MetaVTarget",
    "NotOutputError",
    "OutputKind",
    "QueryError",
    "Request",
    "classify_output",
    "codec_of",
    "make_metav_target",
    "output_of",
]
