"""Other wordings of a trigger's prompt: the rule by which a trigger keeps some, and lists of them.

Lists ship as one YAML file each; an owner's own is a file like them.

A file holds ``wordings``, a list of texts.
"""

from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sif_offline.fingerprint.schema import first_problem
from sif_offline.forging.settings import SettingsError

DEFAULT = "describe"
LONGEST = 2000
"""Characters of one wording."""
BAR = 0.75
MOST = 4


class VariantRule(BaseModel):
    """Which wordings a trigger keeps; the defaults are chosen in ``docs/forging.md``.

    Attributes:
        wordings: to try.
        bar: share of the own wording's worth that another one needs; it needs more than 0 as well.
        most: how many a trigger keeps at most, the worthiest. Each is another chance for unrelated models to
            be greener, which the transfer bound has to cover.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    wordings: tuple[str, ...] = Field(min_length=1)
    bar: float = Field(default=BAR, ge=0, allow_inf_nan=False)
    most: int = Field(default=MOST, ge=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    wordings: list[str] = Field(min_length=1)


def list_names() -> tuple[str, ...]:
    """The lists that ship, sorted."""
    found = files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in found if file.name.endswith(".yaml")))


def load_wordings(source: str) -> tuple[str, ...]:
    """The wordings of a list that ships, by its name, or of a YAML file, by its path; each once, in order.

    Raises:
        SettingsError: neither is there, or the file holds something else.
    """
    if source in list_names():
        text = files(__name__).joinpath(f"{source}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            lists = ", ".join(list_names())
            raise SettingsError(f"wordings {source}: neither a file to read nor one of {lists}") from None
    try:
        found = _File.model_validate(yaml.safe_load(text)).wordings
    except yaml.YAMLError:
        raise SettingsError(f"wordings {source}: not YAML") from None
    except ValidationError as error:
        raise SettingsError(f"wordings {source}: {first_problem(error)}") from None
    if any(not 0 < len(wording) <= LONGEST for wording in found):
        raise SettingsError(f"wordings {source}: a wording has 1 to {LONGEST} characters")
    return tuple(dict.fromkeys(found))
