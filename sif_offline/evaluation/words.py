"""Words without a picture, put to a suspect: sampled, reworded and screened as answers to pictures are."""

from collections.abc import Sequence

from sif_offline.baselines.textual import TextPath
from sif_offline.suspects.chance import NucleusSampling, request_seed
from sif_offline.suspects.paraphrase import paraphrase
from sif_offline.suspects.served import Answer, ServedSuspect


def answers_to_words(suspect: ServedSuspect, prompts: Sequence[str], *, draw: int = 0) -> list[Answer]:
    """One answer to each prompt, that comes without a picture.

    Args:
        suspect: what its endpoint does to pictures does nothing here.
        prompts: the user's words.
        draw: which of many requests this is: what an endpoint draws depends on the row's seed, the prompt and
            this number alone.

    Raises:
        BaselineError: a model that has no path without a picture.
    """
    serving, path = suspect.row.serving, TextPath(suspect.adapter)
    seeds = [request_seed(suspect.row.seed, None, prompt, draw) for prompt in prompts]
    if serving.temperature:
        said = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            drawn = NucleusSampling([seed], temperature=serving.temperature, top_p=serving.top_p or 1)
            said += path.answers([prompt], processors=[drawn])
    else:
        said = path.answers(prompts)
    answers = []
    for prompt, seed, text in zip(prompts, seeds, said, strict=True):
        worded = paraphrase(text, share=serving.paraphrase, seed=seed)
        if suspect.screen is None:
            answers.append(Answer(worded, text))
        else:
            let = suspect.screen(image=None, prompt=prompt, answer=worded)
            answers.append(Answer(let.text, text, let.flagged))
    return answers
