"""How far answers to changed pictures lie from the served one."""

from collections.abc import Sequence

from gateway_plugin.screening.divergence import Embedder, content_words, jaccard

COMPARED_WORDS = 80
"""Answers are compared by their first words: a re-asked answer may end earlier than the served one."""


def instability(embedder: Embedder, served: str, answers: Sequence[str]) -> dict[str, float]:
    """How far the answers to changed pictures lie from the served one.

    For each answer the agreement is the mean of the embeddings' cosine (negative ones count as 0) and the
    Jaccard overlap of content words; the cosine alone where fewer than five content words make the overlap
    meaningless. The instability, in [0, 1], is 1 minus the mean agreement.

    Returns:
        instability, cosine (mean), and jaccard (mean over the answers where it speaks).
    """
    texts = [" ".join(text.split()[:COMPARED_WORDS]) for text in (served, *answers)]
    vectors = embedder.embed(texts)
    cosines = [max(0.0, float(vectors[0] @ vector)) for vector in vectors[1:]]
    said = content_words(texts[0])
    overlaps = [jaccard(said, content_words(text)) for text in texts[1:]]
    agreements = [
        cosine if overlap is None else (cosine + overlap) / 2
        for cosine, overlap in zip(cosines, overlaps, strict=True)
    ]
    measures = {
        "instability": min(1.0, max(0.0, 1.0 - sum(agreements) / len(agreements))),
        "cosine": sum(cosines) / len(cosines),
    }
    spoken = [overlap for overlap in overlaps if overlap is not None]
    if spoken:
        measures["jaccard"] = sum(spoken) / len(spoken)
    return measures
