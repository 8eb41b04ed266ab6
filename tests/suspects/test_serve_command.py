"""``sif lab serve`` with what was done to the weights and what the endpoint does."""

import os
import signal
import subprocess
import sys

import openai
import pytest

from sif_offline.cli.lab.serve import serve
from sif_offline.suspects import SuspectError

COMMAND = [sys.executable, "-c", "from sif_offline.cli.app import main; main()", "lab", "serve"]


def test_a_suspect_is_served_by_its_name_with_its_doings(directory, cache):
    options = ["--suspect", "prune:30+fp4", "--serving", "{temperature: 1.0, paraphrase: 0.5}", "--seed", "3"]
    with subprocess.Popen(
        [*COMMAND, "--model", str(directory), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            ready, url, model = process.stdout.readline().split()
            assert (ready, model) == ("ready", f"model={directory.name}-prune-30-fp4")
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
                said = [
                    client.chat.completions.create(
                        model=model.removeprefix("model="),
                        messages=[{"role": "user", "content": "hello"}],
                        temperature=0,
                    )
                    for _ in range(2)
                ]
            assert said[0].choices[0].message.content != said[1].choices[0].message.content
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert [path.name[:5] for path in (cache / "sifwatch" / "suspects").iterdir()] == ["prune"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suspect": "prune:30", "serving": "{jpeg: 0}"}, "serving .*jpeg"),
        ({"suspect": "prune:30", "serving": "{screen: sda}"}, "a gateway in front"),
        ({"suspect": "melt"}, "'melt': not one of 4bit, fp4"),
        ({"suspect": "4bit", "finetune": 1, "lora": 1, "serving": "5"}, "serving '5'"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_made(directory, cache, options, message):
    with pytest.raises(SuspectError, match=message):
        serve(model=str(directory), **options)
    assert not (cache / "sifwatch").exists()
