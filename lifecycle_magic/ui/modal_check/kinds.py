"""The object that an expression stands for, as far as the text of a script shows it."""

from __future__ import annotations

from typing import NamedTuple

from lifecycle_magic.modal_api.names import INSTEAD_OF_MODULE, OF_MODULE
from lifecycle_magic.modal_api.table import find
from lifecycle_magic.modal_modules import MODULES

__all__ = [
    "ELSEWHERE",
    "OF_SESSION",
    "Instance",
    "Kind",
    "Member",
    "Module",
    "Named",
    "Refused",
    "made_by",
    "module_of",
    "refused_of",
]

PACKAGES = ("modal", "lifecycle_magic")

_OWN_MODULES = ("app", "exception", "network_file_system", "secret", "volume")


class Module(NamedTuple):
    """Modal itself (``modal``), or one of its modules (``modal.gpu``)."""

    path: str


class Named(NamedTuple):
    """A class or function of Modal's: ``modal.Image``, ``modal.enter``."""

    name: str


class Refused(NamedTuple):
    """A name that may be imported and written in annotations, and whose use is refused."""

    shown: str
    note: str


class Instance(NamedTuple):
    """An object of a class of Modal's: an image, the handle of a class, ...

    ``methods`` are those of a class of the script, None if the class is not in it. ``by_name`` is
    true for what another session serves.
    """

    owner: str
    methods: frozenset[str] | None = None
    is_certain: bool = True
    by_name: bool = False


class Member(NamedTuple):
    """A method of an object, or of a class of Modal's."""

    owner: str
    name: str
    of: Instance | None = None


Kind = Module | Named | Refused | Instance | Member | None

_SAME = {
    "Image": frozenset({"imports", "pipe"}),
    "Volume": frozenset(
        {"listdir", "iterdir", "read_file", "read_file_into_fileobj", "batch_upload", "objects"}
    ),
    "Mount": frozenset(),
    "Secret": frozenset({"objects"}),
}
"""Classes whose methods return an object of the class, and the methods that do not."""

_RESULTS: dict[tuple[str, str], str] = {
    ("App", "lookup"): "App",
    ("App", "include"): "App",
    ("Cls", "from_name"): "Cls",
    ("Cls", "lookup"): "Cls",
    ("Server", "from_name"): "Cls",
    ("Cls", "with_options"): "Cls",
    ("Cls", "with_concurrency"): "Cls",
    ("Cls", "with_batching"): "Cls",
    ("Cls", "hydrate"): "Cls",
    ("Function", "from_name"): "Function",
    ("Function", "lookup"): "Function",
    ("Function", "with_options"): "Function",
    ("Function", "with_concurrency"): "Function",
    ("Function", "with_batching"): "Function",
    ("Function", "hydrate"): "Function",
    ("Function", "spawn"): "FunctionCall",
    ("FunctionCall", "from_id"): "FunctionCall",
    ("Queue", "from_name"): "Queue",
    ("Queue", "ephemeral"): "Queue",
    ("Queue", "lookup"): "Queue",
    ("Dict", "from_name"): "Dict",
    ("Dict", "ephemeral"): "Dict",
    ("Dict", "lookup"): "Dict",
    **{(kind, former): kind for kind in ("Queue", "Dict") for former in ("new", "persisted")},
    **{
        ("NetworkFileSystem", name): "Volume"
        for name in ("from_name", "persisted", "lookup", "ephemeral")
    },
}

OF_SESSION = frozenset(
    {"with_options", "with_concurrency", "with_batching", "update_autoscaler", "keep_warm"}
)
"""What a handle by name does not have, as its own session chooses the options."""

ELSEWHERE = (
    "the session that serves it chooses its options. Fix: set them in @app.cls(...) or "
    "@app.function(...)"
)


def made_by(called: Kind) -> Kind:
    """Return what a call of ``called`` returns."""
    if isinstance(called, Named):
        if called.name in ("Conda", "DebianSlim", "DockerfileImage", "DockerhubImage"):
            return Instance("Image")
        return Instance(called.name) if called.name in ("App", "Stub") else None
    if isinstance(called, Instance) and called.owner == "Cls":
        return Instance("Obj", called.methods, by_name=called.by_name)
    if isinstance(called, Member):
        owner = called.owner
        if owner in _SAME and called.name not in _SAME[owner]:
            return Instance(owner)
        found = _RESULTS.get((owner, called.name))
        if found is not None:
            methods = called.of.methods if called.of is not None else None
            by_name = called.name in ("from_name", "lookup") and found in ("Cls", "Function")
            if called.of is not None:
                by_name = by_name or called.of.by_name
            return Instance(found, methods if found == "Cls" else None, by_name=by_name)
    return None


def module_of(path: str) -> str | None:
    """Return the module of Modal's that an import names, as ``modal`` or ``modal.x``."""
    package, _, inner = path.partition(".")
    if package not in PACKAGES:
        return None
    known = inner in MODULES or inner in _OWN_MODULES or inner in INSTEAD_OF_MODULE
    return f"modal.{inner}" if known else ("modal" if not inner else None)


def refused_of(path: str, name: str) -> Refused | None:
    """Return a refused name of a module, None if the module has it here or has no such name."""
    entry = find(path, name) or find("modal", name)
    if entry is not None:
        return Refused(entry.shown, entry.note) if entry.verdict == "refused" else None
    module = path.partition(".")[2]
    if name in OF_MODULE.get(module, "").split():
        return Refused(f"{path}.{name}", INSTEAD_OF_MODULE[module])
    return None
