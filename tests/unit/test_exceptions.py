"""Exceptions taken apart in a container and made again in the kernel: type, message, attributes."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import json
import pickle
import subprocess
import threading
from typing import Any

import cloudpickle
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_magic.errors.remote import alike, blocking_call_error, rebuild
from lifecycle_magic.exception import RemoteError
from lifecycle_magic.guest.failures import format_error, to_failure
from lifecycle_magic.wire import exception_records
from lifecycle_magic.wire.exceptions import Links
from lifecycle_magic.wire.pickling import dumps, dumps_by_value, prepare_args, prepare_kwargs

pytestmark = pytest.mark.every_python


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def sent(error: BaseException) -> BaseException:
    """Return an exception as it arrives after it was sent as bytes over the wire."""
    failure = pickle.loads(pickle.dumps(to_failure(raised(error)), 5))
    return rebuild(failure, "Model.predict")


class KeywordOnly(Exception):
    def __init__(self, *, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail


class NoArguments(Exception):
    def __init__(self) -> None:
        super().__init__("always the same")


class Several(ValueError):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Silent(Exception):
    """Calls no constructor of its base."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        super().__init__("slots")
        self.code = code


class NotFound(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(2, "nothing of that name", name)
        self.asked = name


class Locked(Exception):
    def __init__(self, text: str, lock: Any) -> None:
        super().__init__(text)
        self.lock = lock
        self.code = 7


@dataclasses.dataclass
class Data(Exception):
    code: int
    detail: str


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int


class Reduced(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}/{b}")
        self.pair = a, b
        self.made_by = "init"

    def __reduce__(self) -> Any:
        return Reduced, self.pair


class Both(KeyError, AttributeError):
    def __init__(self, key: str, /, *, owner: str) -> None:
        super().__init__(key)
        self.owner = owner


ODD = [
    KeywordOnly(code=3, detail="broken"),
    NoArguments(),
    Several(4, "text"),
    Silent(5),
    Slotted(6),
    NotFound("x.bin"),
    Data(1, "d"),
    Frozen(2),
    FrozenSlots(3),
    Reduced(1, 2),
    Both("k", owner="me"),
    subprocess.CalledProcessError(3, ["ls", "-l"], b"out", b"err"),
    subprocess.TimeoutExpired("sleep", 1.5),
    json.JSONDecodeError("no value", "{", 1),
    FileNotFoundError(2, "No such file", "a", None, "b"),
    BlockingIOError(11, "busy", 5),
    OSError("only text"),
    OSError(),
    KeyError("missing"),
    StopAsyncIteration(1),
    ImportError("no", name="mod", path="/x.py"),
    SyntaxError("bad", ("f.py", 3, 4, "x = = 1\n", 3, 5)),
    NameError("n", name="who"),
    MemoryError(),
    RecursionError("deep"),
    asyncio.TimeoutError("late"),
    asyncio.IncompleteReadError(b"abc", 10),
    AssertionError(("a", "tuple")),
    UserWarning("w"),
]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_an_exception_arrives_with_type_message_and_attributes(error: BaseException) -> None:
    back = sent(error)
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.args == error.args
    assert vars(back) == vars(error)
    for name in ("code", "errno", "strerror", "filename", "filename2", "name", "path", "msg"):
        assert getattr(back, name, None) == getattr(error, name, None), name


@pytest.mark.parametrize("error", [KeywordOnly(code=1, detail="x"), Several(2, "two")])
def test_an_exception_that_is_a_value_arrives_as_one_that_is_raised(error: Exception) -> None:
    error.hint = "h"  # type: ignore[attr-defined]
    made = pickle.loads(dumps(error)[0])
    assert (type(made), str(made), vars(made)) == (type(error), str(error), vars(error))
    for by_name in (prepare_args((1, error))[1], prepare_kwargs({"error": error})["error"]):
        made = pickle.loads(dumps([by_name])[0])[0]
        assert (type(made), str(made), vars(made)) == (type(error), str(error), vars(error))
    inside = pickle.loads(dumps_by_value({"errors": [error, error], "os": OSError(2, "no", "f")}))
    first, second = inside["errors"]
    assert first is second
    assert (str(first), vars(first)) == (str(error), vars(error))
    assert (inside["os"].errno, inside["os"].filename) == (2, "f")


def test_an_exception_that_is_a_value_may_hold_itself() -> None:
    error = KeywordOnly(code=1, detail="x")
    error.me = [error]  # type: ignore[attr-defined]
    made = pickle.loads(dumps(error)[0])
    assert made.me[0] is made


def unicode_error() -> UnicodeDecodeError:
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


def test_fields_that_are_written_in_c_arrive() -> None:
    back = sent(unicode_error())
    assert isinstance(back, UnicodeDecodeError)
    assert (back.encoding, back.object, back.start, back.end) == ("utf-8", b"\xff", 0, 1)
    back = sent(BlockingIOError(11, "busy", 5))
    assert isinstance(back, BlockingIOError)
    assert back.characters_written == 5


def test_an_exception_of_a_library_keeps_what_it_refers_to() -> None:
    request = httpx.Request("GET", "http://x/")
    response = httpx.Response(404, request=request, text="nothing")
    back = sent(httpx.HTTPStatusError("404", request=request, response=response))
    assert isinstance(back, httpx.HTTPStatusError)
    assert back.response.status_code == 404
    assert back.response.text == "nothing"
    assert str(back.request.url) == "http://x/"


def test_a_value_that_does_not_travel_is_left_out_and_named() -> None:
    back = sent(Locked("held", threading.Lock()))
    assert type(back) is Locked
    assert str(back) == "held"
    assert vars(back)["code"] == 7
    assert not hasattr(back, "lock")
    [note] = back.__notes__
    assert "lock, a _thread.lock" in note


def test_an_argument_that_does_not_travel_is_shown_as_it_was() -> None:
    lock = threading.Lock()
    back = sent(ValueError("held by", lock))
    assert type(back) is ValueError
    assert str(back) == str(ValueError("held by", lock))


def test_an_attribute_that_is_too_large_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exception_records, "MAX_STATE", 1 << 16)
    error = Several(4, "text")
    error.data = bytes(1 << 17)  # type: ignore[attr-defined]
    back = sent(error)
    assert type(back) is Several
    assert back.code == 4
    assert not hasattr(back, "data")
    assert "data, a bytes" in back.__notes__[0]


def test_an_array_that_is_an_attribute_arrives() -> None:
    import numpy

    error = Several(4, "text")
    error.data = numpy.arange(100_000)  # type: ignore[attr-defined]
    assert vars(sent(error))["data"].sum() == numpy.arange(100_000).sum()


class BadReduce(Exception):
    """A ``__reduce__`` that works there and not here."""

    def __init__(self, a: int) -> None:
        super().__init__(a)
        self.a = a

    def __reduce__(self) -> Any:
        return BadReduce, ()


def test_where_a_reduce_fails_it_is_a_remote_error_that_is_of_its_type() -> None:
    back = sent(BadReduce(3))
    assert isinstance(back, BadReduce)
    assert isinstance(back, RemoteError)
    assert "Model.predict raised" in str(back)
    assert "BadReduce: 3" in str(back)
    assert back.a == 3
    assert type(pickle.loads(pickle.dumps(back))) is RemoteError
    assert "BadReduce" in repr(back)


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit, RecursionError, MemoryError])
@pytest.mark.parametrize("where", ["__reduce__", "__str__", "__repr__", "__getstate__"])
def test_a_class_whose_methods_raise_anything_is_still_caught(what: Any, where: str) -> None:
    def fail(self: Any) -> Any:
        raise what

    cls = type("Fails", (Exception,), {where: fail, "__module__": __name__})
    back = sent(cls("x"))
    assert "Fails" in type(back).__name__ or "Fails" in str(back)
    format_error(raised(cls("x")))


class Meta(type):
    """A metaclass that can't be hashed, compared or asked."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise KeyboardInterrupt

    def __getattribute__(cls, name: str) -> Any:
        raise SystemExit

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt


def odd_classes() -> list[BaseException]:
    class NoModule(Exception):
        del __module__  # type: ignore[name-defined]  # noqa: F821

    bare: dict[str, Any] = {}
    exec("class InBuiltins(Exception): pass", bare)
    in_builtins = bare["InBuiltins"]
    odd = Meta.__new__(Meta, "Odd", (Exception,), {"__module__": __name__})

    class Linked(Exception):
        @property
        def __traceback__(self) -> Any:
            raise KeyboardInterrupt

        @property
        def __cause__(self) -> Any:
            raise SystemExit

        @property
        def __class__(self) -> Any:
            raise KeyboardInterrupt

        @property
        def __dict__(self) -> Any:
            raise SystemExit

    class Closed(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit

        def __setattr__(self, name: str, value: Any) -> None:
            raise KeyboardInterrupt

        def __init_subclass__(cls) -> None:
            raise KeyboardInterrupt

        def __reduce__(self) -> Any:
            return Closed, (1, 2, 3)

        def __init__(self) -> None:
            pass

    return [
        NoModule("text"),
        in_builtins("text"),
        BaseException.__new__(odd),  # type: ignore[type-var, list-item]
        Linked("text"),
        Closed(),
    ]


@pytest.mark.parametrize("index", range(5))
def test_no_class_is_too_odd(index: int) -> None:
    error = odd_classes()[index]
    failure = pickle.loads(pickle.dumps(to_failure(raised(error)), 5))
    back = rebuild(failure, "Model.predict")
    assert issubclass(type(back), Exception)
    assert Links.of(back).traceback is not None
    assert isinstance(back, Exception)
    format_error(error)
    alike(back)


def test_an_exception_of_a_class_that_is_not_here_is_a_remote_error() -> None:
    failure = to_failure(raised(Several(1, "text")))
    there = cloudpickle.dumps(Several).replace(b"test_exceptions", b"not_exceptions_")
    failure = failure._replace(records=(failure.records[0]._replace(cls=there),))
    back = rebuild(failure, "Model.predict")
    assert type(back) is RemoteError
    assert "Several: text" in str(back)


def test_exceptions_that_refer_to_each_other_keep_doing_so() -> None:
    one, other = KeywordOnly(code=1, detail="one"), ValueError("other")
    one.other = other  # type: ignore[attr-defined]
    other.one = one  # type: ignore[attr-defined]
    one.__cause__, other.__context__ = other, one
    one.args = ("one", other)
    back = sent(one)
    assert type(back) is KeywordOnly
    inner = back.__cause__
    assert inner is vars(back)["other"]
    assert inner is back.args[1]
    assert vars(inner)["one"] is back  # type: ignore[arg-type]
    assert inner.__context__ is back  # type: ignore[union-attr]


def test_a_very_long_chain_ends() -> None:
    first: BaseException = ValueError(0)
    for number in range(2000):
        following = ValueError(number)
        following.__cause__, following.inner = first, first  # type: ignore[attr-defined]
        first = following
    back: BaseException | None = sent(first)
    count = 0
    while back is not None:
        back, count = back.__cause__, count + 1
    assert count == exception_records.MAX_EXCEPTIONS


BaseGroup: Any = getattr(builtins, "BaseExceptionGroup", None)
PlainGroup: Any = getattr(builtins, "ExceptionGroup", Exception)
need_groups = pytest.mark.skipif(BaseGroup is None, reason="groups came with Python 3.11")


class Group(PlainGroup):  # type: ignore[misc]
    def __new__(cls, text: str, errors: list[Exception], extra: int) -> Any:
        made = super().__new__(cls, text, errors)
        made.extra = extra
        return made


@need_groups
def test_groups_keep_their_members() -> None:
    inner = PlainGroup("inner", [KeywordOnly(code=1, detail="a"), KeyError("b")])
    error = Group("outer", [inner, Locked("c", threading.Lock())], 5)
    error.exceptions[0].__cause__ = Frozen(3)
    back: Any = sent(error)
    assert type(back) is Group
    assert back.message == "outer"
    assert back.extra == 5
    found, locked = back.exceptions
    assert type(found) is PlainGroup
    assert [type(one) for one in found.exceptions] == [KeywordOnly, KeyError]
    assert found.__cause__ == Frozen(3)
    assert type(locked) is Locked
    assert back.split(KeyError)[0] is not None


@need_groups
def test_a_group_may_hold_what_ends_a_process() -> None:
    back: Any = sent(BaseGroup("g", [SystemExit(3), KeyboardInterrupt()]))
    assert type(back) is BaseGroup
    assert [type(one) for one in back.exceptions] == [SystemExit, KeyboardInterrupt]


@pytest.mark.parametrize(
    "error", [SystemExit(3), SystemExit(), StopIteration(4), asyncio.CancelledError("c")]
)
def test_what_would_end_a_loop_or_a_generator_is_held(error: BaseException) -> None:
    back = sent(error)
    assert type(back) is RemoteError
    assert back.code == getattr(error, "code", None)
    inner = blocking_call_error(back)
    assert type(inner) is type(error)
    assert inner.args == error.args
    assert inner.__traceback__ is not None


def test_system_exit_ends_no_thread() -> None:
    back = sent(SystemExit(3))
    found: list[BaseException] = []
    thread = threading.Thread(target=lambda: found.append(blocking_call_error(back)))
    thread.start()
    thread.join()
    assert found == [back]


def test_a_generator_exit_is_a_remote_error() -> None:
    back = sent(GeneratorExit())
    assert type(back) is RemoteError
    assert blocking_call_error(back) is back


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_each_waiter_gets_an_exception_of_its_own(error: BaseException) -> None:
    other = alike(error)
    assert other is not error
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


# --- any class --------------------------------------------------------------------------------

BASES = [Exception, ValueError, KeyError, OSError, ImportError, StopIteration, AttributeError]
values = st.one_of(
    st.none(),
    st.integers(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.floats(allow_nan=False),
)
names = st.sampled_from(["code", "detail", "payload", "errno", "filename", "value", "name"])


@given(
    bases=st.lists(st.sampled_from(BASES), min_size=1, max_size=2, unique=True),
    slots=st.sets(st.sampled_from(["one", "two"])),
    given_=st.dictionaries(names, values),
    args=st.lists(values, max_size=3),
    slot_values=st.dictionaries(st.sampled_from(["one", "two"]), values),
    notes=st.lists(st.text(), max_size=2),
    frozen=st.booleans(),
    keyword_only=st.booleans(),
)
def test_any_class_arrives_as_it_was(
    bases: list[type],
    slots: set[str],
    given_: dict[str, Any],
    args: list[Any],
    slot_values: dict[str, Any],
    notes: list[str],
    frozen: bool,
    keyword_only: bool,
) -> None:
    def setting(self: Any, *args: Any, **kwargs: Any) -> None:
        if keyword_only and args:
            raise TypeError("only by name")
        BaseException.__init__(self, *args)

    def refuse(self: Any, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(name)

    space: dict[str, Any] = {"__slots__": tuple(slots), "__init__": setting, "__module__": __name__}
    try:
        cls = type("Any", tuple(bases), space)
    except TypeError:  # bases whose instances lie differently in memory
        return
    error = cls()
    BaseException.args.__set__(error, tuple(args))  # type: ignore[attr-defined]
    for name, value in given_.items():
        try:
            setattr(error, name, value)
        except TypeError:  # a field written in C that takes no such value
            continue
    for name in slots & slot_values.keys():
        setattr(error, name, slot_values[name])
    if notes:
        error.__notes__ = notes
    if frozen:
        cls.__setattr__ = refuse  # type: ignore[assignment]
    failure = to_failure(raised(error))
    back = blocking_call_error(rebuild(pickle.loads(pickle.dumps(failure, 5)), "Model.predict"))
    assert type(back) is cls
    assert back.args == error.args
    assert vars(back) == vars(error)
    for name in (*slots, "errno", "filename", "value", "name"):
        assert getattr(back, name, "unset") == getattr(error, name, "unset")
