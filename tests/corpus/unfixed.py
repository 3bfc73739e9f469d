"""Each mechanism of `mechanisms.txt` with a change of the package that takes its fix away.

The change is code that is added to the end of a module, in a copy of the package. Programs that
cover the mechanism must differ from plain Python then; otherwise they would not notice the fault if
it came back. ``make unfixed`` shows it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BY_HAND", "UNFIXED", "Change"]


class Change(NamedTuple):
    """Code for the end of a module. ``names`` are those of the module that it replaces."""

    module: str
    names: tuple[str, ...]
    code: str


def _change(module: str, names: str, code: str) -> Change:
    return Change(module, tuple(names.split()), code)


_NOTHING = "lambda *args, **kwargs: None"

_WITHOUT_OWN_NAME = _change(
    "services.packing",
    "_Packer",
    """
_add_name = _Packer._add_name
def _without_own(self, label, space, name, referrer):
    if space is not self._namespace or name not in self._own_names:
        _add_name(self, label, space, name, referrer)
_Packer._add_name = _without_own
""",
)
_RELOADED = _change(
    "guest.user_code",
    "UserCode",
    """
def _load_anew(self, data):
    import gc
    old, names = self.cls, vars(sys.modules["__main__"])
    for name in [one for one in names if one[:2] != "__"]:
        del names[name]
    self.load(data)
    for one in gc.get_objects():
        if type(one) is old:
            one.__class__ = self.cls
    return lambda: None
UserCode.swap = _load_anew
""",
)
_HANDLERS_KEPT = _change(
    "guest.forks",
    "_after_in_child",
    """
def _after_in_child():
    global _before_fork, _before_start, _on_start, in_child
    _on_start = _before_start = _before_fork = None
    in_child = True
    signal.pthread_sigmask(signal.SIG_SETMASK, _fork_state.mask)
""",
)
_MADE_HERE = _change(
    "handles.attributes",
    "on_instance NotReadable",
    """
_by_declaration = on_instance
def on_instance(spec, name, handle, args, kwargs, local):
    if name.startswith("__") or name in (*spec.enter, *spec.exit, *spec.build):
        return _by_declaration(spec, name, handle, args, kwargs, local)
    return getattr(local().get(), name)
""",
)


_HIDDEN_MARKS = _change(
    "spec.class_checks",
    "check_hidden_marks hides_marks",
    f"check_hidden_marks = {_NOTHING}\nhides_marks = lambda cls: False",
)


def _reducers(*names: str) -> Change:
    code = "".join(f"del _REDUCERS[{name!r}]\n" for name in names)
    return _change("wire.reducers", "_REDUCERS", code)


UNFIXED: dict[str, tuple[Change, ...]] = {
    "self reference": (_WITHOUT_OWN_NAME,),
    "names in build hooks": (_WITHOUT_OWN_NAME,),
    "classes name each other": (
        _change(
            "services.packing",
            "_Packer HANDLES",
            """
_add_name = _Packer._add_name
def _without_handles(self, label, space, name, referrer):
    if type(space.get(name)) not in HANDLES:
        _add_name(self, label, space, name, referrer)
_Packer._add_name = _without_handles
""",
        ),
    ),
    "call in the same cell": (
        _change(
            "ui.notebook.cell",
            "RunningCell",
            "RunningCell.declare = lambda self, value, *names: value",
        ),
    ),
    "state after an edit": (_RELOADED,),
    "module state after an edit": (_RELOADED,),
    "class state after an edit": (_RELOADED,),
    "helper class after an edit": (_RELOADED,),
    "bound methods after an edit": (
        _RELOADED,
        _change(
            "fingerprint.class_hierarchy",
            "ClassHierarchy",
            "ClassHierarchy.refer_to_reads = lambda self, reads, owner: []",
        ),
    ),
    "environment of build hooks": (
        _change("spec.build_digest", "_environment", "_environment = lambda options: {}"),
    ),
    "property on a handle": (_MADE_HERE, _HIDDEN_MARKS),
    "assignment to a handle": (
        _change("handles.obj", "Obj", f"Obj._refuse = {_NOTHING}"),
        _change(
            "session.registry",
            "Entry",
            "Entry.change = lambda self, change, statement: change(self.spec.cls)",
        ),
    ),
    "unchanged after copies": (
        _change(
            "fingerprint.own_attributes",
            "_BOOKKEEPING",
            "_BOOKKEEPING = _BOOKKEEPING - {'__slotnames__', '__signature__', '__annotations__',"
            " '__annotations_cache__', '__static_attributes__'}",
        ),
    ),
    "unchanged although edited": (
        _change(
            "fingerprint.bytecode",
            "read",
            """
_read = read
def read(code, self_name=None):
    reads = _read(code, self_name)
    lines = [line for _, _, line in code.co_lines()]
    reads.canonical = [lines, repr(code.co_consts[:1]), *reads.canonical]
    return reads
""",
        ),
    ),
    "traceback line": (
        _change(
            "callers.tracebacks",
            "_code",
            """
_exact = _code
def _code(line):
    return _exact(line).replace(co_firstlineno=line.lineno + 1)
""",
        ),
    ),
    "pools end": (_HANDLERS_KEPT,),
    "terminate a process": (_HANDLERS_KEPT,),
    "executor on self": (
        _change(
            "guest.interpreter_end",
            "run",
            "def run(report=None):\n    _safely(atexit._run_exitfuncs)",
        ),
    ),
    "async generator left": (
        _change(
            "calls.async_generators",
            "AsyncItems",
            "AsyncItems._end = AsyncItems.__del__ = lambda self: None",
        ),
    ),
    "half read generator": (
        _change("calls.streams", "Stream", "Stream.close = lambda self: None"),
    ),
    "pickle of cell functions": (
        _change(
            "guest.user_code",
            "_module",
            """
_module_of = _module
def _module(name):
    return {"__name__": name} if name == "__main__" else _module_of(name)
""",
        ),
    ),
    "source of cell functions": (
        _change("guest.user_code", "show_sources", f"show_sources = {_NOTHING}"),
    ),
    "cached values travel": (_reducers("cached_property", "_lru_cache_wrapper"),),
    "singledispatch": (_reducers("WeakKeyDictionary", "ReferenceType"),),
    "NewType": (_reducers("NewType"),),
    "pydantic forward references": (
        _change("wire.pydantic_models", "is_derived", "is_derived = lambda name: False"),
    ),
    "refused by path": (
        _change(
            "wire.unpicklable",
            "part_of",
            "part_of = lambda *given: 'something that it refers to can not be pickled'",
        ),
    ),
    "exception type": (
        _change(
            "wire.exceptions",
            "make_blank",
            "def make_blank(cls, group=None):\n    raise TypeError('not made')",
        ),
    ),
    "interrupt reaches children": (
        _change("guest.interrupter", "Interrupter", f"Interrupter.signal_processes = {_NOTHING}"),
    ),
    "files of volumes": (
        _change("guest.user_account", "switch_user", f"switch_user = {_NOTHING}"),
    ),
    "user of the image": (
        _change("guest.user_account", "switch_user", f"switch_user = {_NOTHING}"),
    ),
    "shared memory size": (_change("guest.memory", "shm_size_mib", "shm_size_mib = lambda: 0"),),
    "time zone and umask": (
        _change(
            "guest.host_settings",
            "apply",
            """
_apply = apply
def apply(around, run):
    env = {name: value for name, value in around.env.items() if name != "TZ"}
    os.environ.pop("TZ", None)
    _apply(around._replace(zone=None, umask=None, env=env), run)
""",
        ),
    ),
    "this machine by name": (_change("wire.host_settings", "HOST", "HOST = 'elsewhere.internal'"),),
    "forgotten decorator": (
        _HIDDEN_MARKS,
        _change("handles.attributes", "Plain", "Plain = lambda where, value, call, *rest: call"),
    ),
    "hasattr on a handle": (
        _change(
            "handles.attributes",
            "NotReadable Missing",
            "class NotReadable(InvalidError): pass\nclass Missing(InvalidError): pass",
        ),
    ),
    "own frames hidden": (
        _change(
            "callers.internal_frames",
            "strip_all strip",
            f"strip_all = {_NOTHING}\nstrip = lambda error: error",
        ),
    ),
    "await in the class cell": (
        _change(
            "ui.notebook.run_cell",
            "_awaits_at_the_top",
            "_awaits_at_the_top = lambda source: False",
        ),
    ),
    "shell results in a class": (_reducers("SList", "LSString"),),
    "reconfigure stdout": (_change("guest.output", "Output", "del Output.reconfigure"),),
    "handle in annotations": (
        _change("handles.cls", "Cls", "del Cls.__or__, Cls.__ror__, Cls.__instancecheck__"),
    ),
    "imports block": (
        _change(
            "images.imports_block",
            "ImportsBlock _may_be_in_image _guarded",
            """
ImportsBlock.covers = lambda self, space: True
_may_be_in_image = lambda name: True
_guarded = lambda block, frame: False
""",
        ),
    ),
    "script annotations": (
        _change(
            "ui.cli.main_module",
            "_compiled",
            """
def compile(*given, **options):
    import __future__
    return builtins.compile(*given, flags=__future__.annotations.compiler_flag, dont_inherit=True)
""",
        ),
    ),
    "stale handles": (
        _change(
            "session.registry",
            "claim",
            """
def claim(key, spec, may_follow=None):
    with _lock:
        number = 1
        while (own := key if number == 1 else f"{key}#{number}") in _entries:
            number += 1
        entry = _entries[own] = Entry(own, spec)
        entry.newest = _Source.of(spec)
        return entry
""",
        ),
    ),
    "arguments readable": (_MADE_HERE,),
    "command line options": (
        _change(
            "ui.cli.parser",
            "Parser",
            "Parser.parse_args = lambda self, *given: self.parse_known_args(*given)[0]",
        ),
    ),
    "application by source": (
        _change(
            "services.web_applications",
            "is_application reduce_with_new_locks",
            f"is_application = lambda value: False\nreduce_with_new_locks = {_NOTHING}",
        ),
    ),
}

BY_HAND = {"many prints": "without the fix prints are slow, and nothing else changes"}
"""Mechanisms whose fault no program can show, with the reason."""
