"""A script written for Modal, read without running it: each use of a name of Modal's.

Statements are followed in their order, at the top level first and in functions afterwards, when
all global names are known. A name stands for what was last assigned to it. What an expression
stands for is `lifecycle_magic.ui.modal_check.kinds`; what can't be known is left out.
"""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Iterable, MutableMapping
from typing import Any

from lifecycle_magic.modal_api.table import find
from lifecycle_magic.ui.modal_check import available
from lifecycle_magic.ui.modal_check.kinds import (
    ELSEWHERE,
    OF_SESSION,
    Instance,
    Kind,
    Member,
    Module,
    Named,
    Refused,
    made_by,
    module_of,
    refused_of,
)
from lifecycle_magic.ui.modal_check.name_use import UNKNOWN, Found, NameUse, instead_of
from lifecycle_magic.ui.modal_check.values import is_default, refused_arguments

__all__ = ["Script"]

_RUN = ("runs", "renamed")

Names = MutableMapping[str, Kind]

_OPTIONS = {"App.cls", "App.function", "App.server", "App", "Cls.with_options"}
_OPTIONS |= {"Function.with_options", "Stub", "Stub.webhook", "Stub.asgi", "Stub.wsgi"}
_FREE = ("remote", "remote_gen", "local", "spawn", "map", "starmap", "for_each", "spawn_map")
"""Methods whose keywords are the user's."""

_HOOKS = {
    "__enter__": "write @enter() above a method of another name",
    "__aenter__": "write @enter() above an async method of another name",
    "__exit__": "write @exit() above a method of another name, without arguments",
    "__aexit__": "write @exit() above an async method of another name, without arguments",
}
"""Methods that were hooks in Modal."""


class Script:
    """The uses of Modal's names in the code that is `read`, in its order."""

    def __init__(self) -> None:
        self.uses: list[NameUse] = []
        self._names: Names = {}
        self._kept: Names = {}  # objects that are attributes of an app
        self._later: list[tuple[list[ast.stmt], Names]] = []
        self._cell: int | None = None

    def read(self, code: str, cell: int | None = None) -> None:
        """Read the code of a script, or of the next cell. Raises `SyntaxError`."""
        tree = ast.parse(code)
        self._cell = cell
        self._statements(tree.body, self._names)
        while self._later:
            body, names = self._later.pop(0)
            self._statements(body, names)
        self.uses.sort(key=lambda use: (use.cell or 0, use.line, use.column))

    # --- statements ------------------------------------------------------------------------

    def _statements(self, body: Iterable[ast.stmt], names: Names) -> None:
        for statement in body:
            self._statement(statement, names)

    def _statement(self, node: ast.stmt, names: Names) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node, names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names[node.name] = self._function(node, names)
        elif isinstance(node, ast.ClassDef):
            names[node.name] = self._class(node, names)
        elif isinstance(node, ast.Assign):
            kind = self._value(node.value, names)
            for target in node.targets:
                self._assign(target, kind, node.value, names)
        elif isinstance(node, ast.AnnAssign):
            self._value(node.annotation, names)
            if node.value is not None:
                self._assign(node.target, self._value(node.value, names), node.value, names)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                kind = self._value(item.context_expr, names)
                if item.optional_vars is not None:
                    self._assign(item.optional_vars, kind, item.context_expr, names)
            self._statements(node.body, names)
        elif isinstance(node, ast.For | ast.AsyncFor):
            self._value(node.iter, names)
            self._assign(node.target, None, node.iter, names)
            self._statements((*node.body, *node.orelse), names)
        else:
            self._others(node, names)

    def _others(self, node: ast.AST, names: Names) -> None:
        if isinstance(node, ast.ExceptHandler) and node.name is not None:
            names[node.name] = None
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._statement(child, names)
            elif isinstance(child, ast.expr):
                self._value(child, names)
            else:
                self._others(child, names)

    def _assign(self, target: ast.expr, kind: Kind, value: ast.expr, names: Names) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = kind
        elif isinstance(target, ast.Tuple | ast.List):
            for one in target.elts:
                self._assign(one, None, value, names)
        elif (name := self._kept_name(target, names)) is not None and name != "image":
            self._kept[name] = kind
        else:
            self._value(target, names)

    def _kept_name(self, node: ast.expr, names: Names) -> str | None:
        """Return x for ``app.x``, and for ``stub["x"]``."""
        if not isinstance(node, ast.Attribute | ast.Subscript):
            return None
        of = self._quietly(node.value, names)
        if not isinstance(of, Instance) or of.owner not in ("App", "Stub"):
            return None
        if isinstance(node, ast.Attribute):
            return node.attr
        return str(node.slice.value) if isinstance(node.slice, ast.Constant) else None

    def _import(self, node: ast.Import | ast.ImportFrom, names: Names) -> None:
        if isinstance(node, ast.ImportFrom):
            home = module_of(node.module or "") if node.level == 0 else None
            if home is None:
                names.update((one.asname or one.name, None) for one in node.names)
                return
            self._rewrite(node, node.module or "")
            for alias in node.names:
                names[alias.asname or alias.name] = self._attribute(Module(home), alias.name, alias)
            return
        for alias in node.names:
            path = module_of(alias.name)
            if path is None:
                names[alias.asname or alias.name.partition(".")[0]] = None
                continue
            self._rewrite(node, alias.name, alias.asname)
            names[alias.asname or "modal"] = Module(path if alias.asname else "modal")
            if not alias.asname:
                names[alias.name.partition(".")[0]] = Module("modal")

    def _rewrite(self, node: ast.stmt, path: str, asname: str | None = None) -> None:
        """Report an import of Modal itself, which has another name here."""
        package, _, inner = path.partition(".")
        if package != "modal":
            return
        if isinstance(node, ast.ImportFrom):
            write = f"from {'.'.join(filter(None, ('lifecycle_magic', inner)))} import ..."
        elif inner and asname:
            write = f"import lifecycle_magic.{inner} as {asname}"
        else:
            write = f"import lifecycle_magic as {asname or 'modal'}"
        self._report(node, f"import {path}", "import", f"write {write}")

    # --- definitions -----------------------------------------------------------------------

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, names: Names) -> Kind:
        kind = self._decorated(node.decorator_list, names, "function", "webhook", "asgi", "wsgi")
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self._value(default, names)
        self._later.append((node.body, _inner(names, node.args)))
        return Instance("Function") if kind is not None else None

    def _class(self, node: ast.ClassDef, names: Names) -> Kind:
        kind = self._decorated(node.decorator_list, names, "cls", "server")
        for base in (*node.bases, *(one.value for one in node.keywords)):
            self._use_refused(self._value(base, names), base)
        methods = frozenset(
            one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        made = Instance("Cls", methods) if kind is not None else None
        for one in node.body if made is not None else ():
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name in _HOOKS:
                self._report(one, f"def {one.name}", "refused", _HOOKS[one.name])
        own: Names = ChainMap({}, names)
        before = len(self._later)
        self._statements(node.body, own)
        if made is not None:
            for _, inside in self._later[before:]:
                if "self" in inside:
                    inside["self"] = Instance("Obj", methods)
        return made

    def _decorated(self, decorators: list[ast.expr], names: Names, *wanted: str) -> Kind:
        """Visit decorators; return the one of an app with one of these names."""
        found: Kind = None
        for one in decorators:
            called = one.func if isinstance(one, ast.Call) else one
            value = self._value(one, names)
            if called is one:
                self._use_refused(value, one)
            kind = self._quietly(called, names)
            if isinstance(kind, Member) and kind.owner in ("App", "Stub") and kind.name in wanted:
                found = kind
        return found

    def _quietly(self, node: ast.expr, names: Names) -> Kind:
        """Return what an expression stands for that has been reported already."""
        kept = len(self.uses)
        kind = self._value(node, names)
        del self.uses[kept:]
        return kind

    # --- expressions -----------------------------------------------------------------------

    def _value(self, node: ast.expr, names: Names) -> Kind:
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(self._value(node.value, names), node.attr, node)
        if isinstance(node, ast.Call):
            return self._call(node, names)
        if isinstance(node, ast.Subscript):
            if self._kept_name(node, names) in self._kept:
                return self._kept[str(self._kept_name(node, names))]
            self._use_refused(self._quietly(node.value, names), node.value)
        if isinstance(node, ast.Await):
            return self._value(node.value, names)
        if isinstance(node, ast.NamedExpr):
            kind = self._value(node.value, names)
            self._assign(node.target, kind, node.value, names)
            return kind
        if isinstance(node, ast.IfExp):
            self._value(node.test, names)
            first, second = self._value(node.body, names), self._value(node.orelse, names)
            return first if first is not None else second
        if isinstance(node, ast.Lambda):
            self._value(node.body, _inner(names, node.args))
            return None
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            names = ChainMap({}, names)
            for part in node.generators:
                self._value(part.iter, names)
                self._assign(part.target, None, part.iter, names)
                for test in part.ifs:
                    self._value(test, names)
            results = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
            for result in results:
                self._value(result, names)
            return None
        self._others(node, names)
        return None

    def _attribute(self, of: Kind, name: str, node: Any) -> Kind:
        if isinstance(of, Module):
            return self._of_module(of, name, node)
        if isinstance(of, Refused):
            self._use_refused(of, node.value)
            return None
        if isinstance(of, Named):
            if not available.is_class(of.name):
                return None
            self._look_up(of.name, name, node)
            return Member(of.name, name)
        if isinstance(of, Instance):
            return self._of_instance(of, name, node)
        if isinstance(of, Member) and name == "aio":
            return of
        return None

    def _of_module(self, of: Module, name: str, node: Any) -> Kind:
        if (inner := module_of(f"{of.path}.{name}")) is not None and of.path == "modal":
            return Module(inner)
        if name.startswith("_"):
            return None
        if (refused := refused_of(of.path, name)) is not None:
            return refused
        self._look_up(of.path, name, node)
        known = find(of.path, name) or find("modal", name)
        return Named(name) if known is not None and known.verdict in _RUN else _stand_in(name)

    def _of_instance(self, of: Instance, name: str, node: Any) -> Kind:
        if of.by_name and name in OF_SESSION and name not in (of.methods or ()):
            self._report(node, f"{of.owner}.{name}", "refused", ELSEWHERE)
            return Member(of.owner, name, of)
        if of.owner in ("App", "Stub") and name in self._kept:
            return self._kept[name]
        if of.owner == "Stub" and find("Stub", name) is None:
            of = Instance("App")
        if of.owner == "Obj" and find("Obj", name) is None:
            if of.methods is not None:
                return Instance("Function") if name in of.methods else None
            return Instance("Function", is_certain=False)
        if of.owner == "Cls" and find("Cls", name) is None:
            return None  # the user's own
        entry = find(of.owner, name)
        if not of.is_certain and (entry is None or entry.verdict not in _RUN):
            return None
        self._look_up(of.owner, name, node)
        return Member(of.owner, name, of)

    def _call(self, node: ast.Call, names: Names) -> Kind:
        called = self._value(node.func, names)
        self._use_refused(called, node.func)
        for value in (*node.args, *(one.value for one in node.keywords)):
            self._value(value, names)
        where = _where(called)
        if where == "Stub":
            for keyword in node.keywords:
                if isinstance(kept := self._quietly(keyword.value, names), Instance):
                    self._kept[str(keyword.arg)] = kept
        if where is not None:
            for keyword in node.keywords:
                if keyword.arg is not None and not (where == "Stub" and keyword.arg in self._kept):
                    self._keyword(where, keyword.arg, keyword.value)
            for value, shown, note in refused_arguments(where, node):
                self._report(value, shown, "refused", note)
        return made_by(called)

    def _keyword(self, where: str, name: str, value: ast.expr) -> None:
        owner = "options" if where in _OPTIONS else where
        entry = find(where, f"{name}=") or find(owner, f"{name}=")
        shown = f"{where}({name}=)"
        of_all = entry is not None and (entry.owner == "options" or entry.owner.endswith("*"))
        if available.has_parameter(where, name) and (entry is None or of_all):
            self._report(value, shown, "runs")
        elif entry is None:
            former = find(*where.split(".")) if "." in where else None
            if former is not None and former.verdict == "renamed":
                return  # its keywords are those of its new form
            if (
                where != "Dict.update"
                and where.rpartition(".")[2] not in _FREE
                and (where in _OPTIONS or available.is_callable(where))
            ):
                self._report(value, shown, "unknown", UNKNOWN)
        elif is_default(value, entry.owner):
            self._report(value, shown, "runs")
        else:
            self._report(value, shown, entry.verdict, entry.note)

    # --- reports ---------------------------------------------------------------------------

    def _use_refused(self, kind: Kind, node: ast.expr) -> None:
        """Report the use of a refused name; to import it, or to annotate with it, is none."""
        if isinstance(kind, Refused):
            self._report(node, kind.shown, "refused", kind.note)

    def _look_up(self, owner: str, name: str, node: Any) -> None:
        entry = find(owner, name)
        if entry is None and owner.startswith("modal."):
            entry = find("modal", name)
        if entry is not None:
            self._report(node, entry.shown, entry.verdict, entry.note)
        elif available.has_name(owner, name):
            self._report(node, f"{owner}.{name}", "runs")
        elif not name.startswith("_") and name != "*":
            self._report(node, f"{owner}.{name}", "unknown", instead_of(owner))

    def _report(self, node: Any, name: str, verdict: Found, note: str = "") -> None:
        note = "" if verdict == "runs" else note
        line, column = node.lineno, node.col_offset
        if isinstance(node, ast.Attribute):  # the name itself: a chain has many lines
            line, column = node.end_lineno or line, (node.end_col_offset or 0) - len(node.attr)
        self.uses.append(NameUse(line, column + 1, name, verdict, note, self._cell))


def _inner(names: Names, arguments: ast.arguments) -> Names:
    """Return the names inside of a function, whose parameters stand for anything."""
    everything = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    own: dict[str, Kind] = {one.arg: None for one in everything}
    for one in (arguments.vararg, arguments.kwarg):
        if one is not None:
            own[one.arg] = None
    return ChainMap(own, names)


def _where(called: Kind) -> str | None:
    if isinstance(called, Named):
        return called.name
    return f"{called.owner}.{called.name}" if isinstance(called, Member) else None


def _stand_in(name: str) -> Kind:
    return Named("Stub") if name == "Stub" else None
