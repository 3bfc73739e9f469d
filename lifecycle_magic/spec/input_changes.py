"""Changes to how a class takes inputs: `Cls.with_concurrency` and `Cls.with_batching`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

from lifecycle_magic.decorators.marks import BatchMarks, ConcurrentMarks
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.class_spec import ClassSpec, MethodSpec

__all__ = ["NO_CHANGES", "InputChanges"]


@dataclass(frozen=True)
class InputChanges:
    """Marks that replace those of a class's methods; None leaves them as they are."""

    concurrent: ConcurrentMarks | None = None
    batched: BatchMarks | None = None

    def apply(self, spec: ClassSpec) -> ClassSpec:
        """Return the class with these marks. Raises `InvalidError` if they can't work there."""
        if self.concurrent is None and self.batched is None:
            return spec
        methods = dict(spec.methods)
        if self.concurrent is not None:
            for name, method in methods.items():
                methods[name] = dataclasses.replace(method, concurrent=self.concurrent)
        if self.batched is not None:
            for name in _batched(spec):
                methods[name] = dataclasses.replace(methods[name], batched=self.batched)
        changed = dataclasses.replace(spec, methods=MappingProxyType(methods))
        changed.check_single_use()
        return changed

    def label(self) -> str:
        """Return what distinguishes the class with these marks, an empty string for none."""
        marks = [mark for mark in (self.concurrent, self.batched) if mark is not None]
        return ",".join(",".join(map(str, mark)) for mark in marks)


NO_CHANGES = InputChanges()


def _batched(spec: ClassSpec) -> list[str]:
    """Return the names of the methods to batch: those with ``@batched``, or else the only one."""
    found = [name for name, method in spec.methods.items() if method.batched]
    if found:
        return found
    able = [name for name, method in spec.methods.items() if _can_be_batched(method)]
    if len(spec.methods) == 1 and able:
        return able
    raise InvalidError(
        f"{spec.name}.with_batching(...): no method of {spec.name} has @batched, and "
        f"{', '.join(spec.methods) or 'none'} can't be chosen from. "
        "Fix: write @batched(max_batch_size=8, wait_ms=100) above the method"
    )


def _can_be_batched(method: MethodSpec) -> bool:
    return not (method.is_generator or method.web)
