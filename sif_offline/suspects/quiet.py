"""bitsandbytes says one thing at every layer of every token: this keeps it to errors."""

import logging


def quiet_bitsandbytes() -> None:
    """Call before anything imports bitsandbytes (PEFT does, where it is installed).

    It warns at import that a faster kernel could be downloaded, and at every int8 product that it starts from
    float16. Neither is anything a user can act on.
    """
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).setLevel(logging.ERROR)
