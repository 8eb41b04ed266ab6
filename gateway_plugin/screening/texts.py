"""Texts of strangers are bounded before anything is made of them."""


def text_ends(text: str, *, characters: int, between: str = "") -> str:
    """The text, or its two ends, ``characters // 2`` each, where it is longer.

    between: stands between the ends; ``{}`` in it is the number of characters that are left out.
    """
    if len(text) <= characters:
        return text
    half = characters // 2
    return text[:half] + between.format(len(text) - 2 * half) + text[len(text) - half :]
