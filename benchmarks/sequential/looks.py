"""What a watch of many looks costs: an e-process fed an answer at once, against one type at a time.

    python -m benchmarks.sequential.looks [--looks 2000] [--types 32] [--json]

Seconds are of this machine; the ratio is what carries over. Both ways end in the same state.
"""

import argparse
import json
import sys
import time

import numpy as np

from sif_offline.fingerprint.sequential import EProcess


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--looks", type=int, default=2000)
    parser.add_argument("--types", type=int, default=32, help="new types a look")
    parser.add_argument("--transfer", type=float, default=0.03)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    answers = [
        list(enumerate((generator.uniform(size=arguments.types) < 0.53).tolist()))
        for _ in range(arguments.looks)
    ]
    seconds = {}
    for name in ("at_once", "one_by_one"):
        process = EProcess(vocab_size=4096, green_size=2048, transfer=arguments.transfer)
        start = time.process_time()
        for look, types in enumerate(answers):
            for part in [types] if name == "at_once" else [[pair] for pair in types]:
                process.update(f"t{look}", part)
        seconds[name] = time.process_time() - start
    row = {**seconds, "ratio": seconds["one_by_one"] / seconds["at_once"], "log_e": process.log_e}
    text = json.dumps(row) if arguments.json else "  ".join(f"{k} {v:.3g}" for k, v in row.items())
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
