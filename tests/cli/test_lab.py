"""``sif lab``: the server as a process of its own, and the photos."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from sif_offline.lab import tiny_lab_model

COMMAND = [sys.executable, "-c", "from sif_offline.cli.app import main; main()", "lab"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    model, processor = tiny_lab_model(0)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def environment(cache, **more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache), **more}


def test_a_pirate_copy_is_served_says_ready_once_and_stops_on_sigterm(checkpoint, tmp_path):
    arguments = ["serve", "--model", str(checkpoint), "--finetune", "1", "--quantize", "4bit", "--port", "0"]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path, SIF_LAB_API_KEY="sesame"),
    ) as process:
        try:
            ready, url, model = process.stdout.readline().split()
            assert (ready, model) == ("ready", "model=tiny-finetune-1-4bit")
            with openai.OpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=0) as client:
                answer = client.chat.completions.create(
                    model="tiny-finetune-1-4bit",
                    messages=[{"role": "user", "content": "hello"}],
                    max_tokens=3,
                )
            assert answer.usage.completion_tokens == 3
        finally:
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=30)
        assert rest == ""
        assert "Traceback" not in errors
        assert "kernels" not in errors
        assert process.returncode in (0, -signal.SIGTERM)
        assert len(list((tmp_path / "sifwatch" / "suspects").iterdir())) == 1


def test_a_taken_port_and_a_missing_or_broken_model_are_one_line_each(sif, checkpoint, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = sif("lab", "serve", "--model", checkpoint, "--port", port)
        assert (result.code, result.stdout) == (2, "")
        assert result.stderr.splitlines() == [
            f"error: 127.0.0.1:{port}: cannot listen: Address already in use"
        ]
    result = sif("lab", "serve", "--model", tmp_path / "none")
    assert result.code == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'none'}: neither a lab model")
    assert len(result.stderr.splitlines()) == 1
    (tmp_path / "config.json").write_text("{")
    result = sif("lab", "serve", "--model", tmp_path)
    assert result.code == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path}: cannot be loaded")


def test_photos_are_written_and_listed(sif, tmp_path):
    result = sif("lab", "photos", "--out", tmp_path / "photos", "--count", 2)
    assert result.code == 0
    written = sorted(path for path in (tmp_path / "photos").glob("*.png"))
    assert [Path(line) for line in result.stdout.split()] == written
    assert len(written) == 2


@pytest.mark.parametrize("count", [0, 1000])
def test_a_count_out_of_range_writes_nothing(sif, tmp_path, count):
    assert sif("lab", "photos", "--out", tmp_path / "photos", "--count", count).code == 2
    assert not (tmp_path / "photos").exists()


def test_help_does_not_wait_for_torch():
    code = "import sys; import sif_offline.cli.lab; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
