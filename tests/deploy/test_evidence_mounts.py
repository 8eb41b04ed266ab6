"""What the chart mounts is enough for a bundle: laid as a kubelet lays it, the entrypoint, a round."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from probes.testing.endpoint import ScriptedEndpoint
from probes.testing.tiny_pack import build_tiny_pack
from sif_offline.fingerprint.evidence.bundle import Bundle
from sif_offline.fingerprint.evidence.checked import Trust
from sif_offline.fingerprint.evidence.signing import SigningKey
from sif_offline.fingerprint.evidence.verification import verify_bundle
from sif_offline.fingerprint.private_files import KeyFileError
from tests.deploy.test_helm import of_kind, rendered
from tests.deploy.tools import DEPLOY, passes
from tests.probes.conftest import committed_pack

NAMES = {"name": "pirate", "model": "openai/x", "authorised_by": "the test", "purpose": "a test"}


def lay(folder: Path, files: dict[str, str], *, mode: int) -> None:
    """A Secret or ConfigMap as a kubelet mounts it: links into a folder that is exchanged as a whole."""
    (folder / "..2026_01_01").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026_01_01")
    for name, text in files.items():
        (folder / "..data" / name).write_text(text)
        (folder / "..data" / name).chmod(mode)
        (folder / name).symlink_to(f"..data/{name}")


def test_a_pod_with_a_signing_key_writes_a_bundle(tmp_path: Path) -> None:
    """Its group may read what is mounted (fsGroup), which the key's reader refuses; the copy it takes."""
    tiny = build_tiny_pack(tmp_path / "tiny")
    owner, key = SigningKey.generate(), SigningKey.generate()
    key.write(tmp_path / "signing-key.pem")
    root = tmp_path / "root"
    pack = committed_pack(tiny, tmp_path / "committed", alpha=1e-6, key=owner)
    documents = rendered(
        {
            "probes": {
                "evidence": {"existingSecret": "evidence-key"},
                "files": [
                    {"name": "targets", "existingConfigMap": "my-targets"},
                    {"name": "keys", "existingSecret": "my-keys"},
                ],
                "config": {
                    "targets": [],
                    "targets_folder": "/srv/sifwatch/files/targets",
                    "triggers_per_round": 16,
                    "clean_share": 0,
                },
            }
        }
    )
    deployment = of_kind(documents, "Deployment")["watch-sifwatch-probes"]["spec"]["template"]["spec"]
    (container,) = deployment["containers"]
    config = of_kind(documents, "ConfigMap")["watch-sifwatch-probes"]["data"]["probes.yaml"]
    with ScriptedEndpoint(pack.pirate()) as pirate:
        target = {**NAMES, "api_base": pirate.url, "api_key_file": "/srv/sifwatch/files/keys/suspect"}
        contents: dict[str, dict[str, str]] = {
            "trigger-keys": {"pack.trigger-keys.json": pack.keys_path.read_text()},
            "evidence-key": {"signing-key.pem": (tmp_path / "signing-key.pem").read_text()},
            "files-targets": {"pirate.yaml": inside(root, yaml.safe_dump(target))},
            "files-keys": {"suspect": "sk-of-the-suspect\n"},
            "config": {"probes.yaml": inside(root, config)},
        }
        volumes = {volume["name"]: volume for volume in deployment["volumes"]}
        for mount in container["volumeMounts"]:
            place, volume = Path(inside(root, mount["mountPath"])), volumes[mount["name"]]
            if mount["name"] == "pack":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(pack.folder)
            elif mount["name"] in contents:
                lay(place, contents.pop(mount["name"]), mode=mode_of(volume))
            else:
                place.mkdir(parents=True)
        assert contents == {}
        environment = {one["name"]: inside(root, one["value"]) for one in container["env"]}
        with pytest.raises(KeyFileError, match="mode 0440 lets others read"):
            SigningKey.read(root / "srv/sifwatch/evidence-key/signing-key.pem")
        passes(
            *("/bin/sh", DEPLOY / "docker" / "entrypoint.sh"),
            *(sys.executable, "-m", "probes.cli", "once"),
            *("--config", root / "etc/sifwatch/probes.yaml"),
            cwd=root,
            **environment,
            PRIVATE_DIRECTORY=str(root / "run/sifwatch"),
            PATH=os.defpath,
            PYTHONPATH=str(DEPLOY.parent),
            LITELLM_LOCAL_MODEL_COST_MAP="True",
        )
        assert {question.headers.get("authorization") for question in pirate.questions} == {
            "Bearer sk-of-the-suspect"
        }
    (bundle,) = (root / "srv/sifwatch/evidence").iterdir()
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    trust = Trust(owner=owner.public, bundler=key.public)
    assert verify_bundle(Bundle.read(bundle), trust=trust).passed


def inside(root: Path, text: str) -> str:
    """The container's absolute paths as paths below a folder."""
    for top in ("/etc/sifwatch", "/srv/sifwatch", "/run/sifwatch", "/var/lib/sifwatch"):
        text = text.replace(top, f"{root}{top}")
    return f"{root}/tmp" if text == "/tmp" else text


def mode_of(volume: dict[str, Any]) -> int:
    """Of the files in a Secret or ConfigMap; with an fsGroup its group may read them, whatever is asked."""
    source = volume.get("secret") or volume["configMap"]
    return int(source.get("defaultMode", 0o644)) | 0o440
