"""The options of a class, each checked once, where the user wrote it.

`Options.make` takes what ``@app.cls``, ``with_options`` or the cell magic were given and returns a
frozen record in which every value is in its final form: MiB, cores, seconds, tuples. What can't
work is refused here, by option, class and value, so nothing further down checks again.
What the machine or the engine can't honour (more cores than there are) is not decided here.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import hmac
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from lifecycle_magic.exception import InvalidError

if TYPE_CHECKING:
    from lifecycle_magic.image import Image
    from lifecycle_magic.secret import Secret
    from lifecycle_magic.volume import Volume

__all__ = ["Options", "Retries"]

# Earlier names of the same options: https://modal.com/docs/guide/modal-1-0-migration
_RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
    "mounts": "image=Image.add_local_dir(...)",
    "mount": "image=Image.add_local_dir(...)",
    "secret": "secrets=[...]",
    "volume": "volumes={path: volume}",
}
_ON_THE_CLASS = {
    "allow_concurrent_inputs": "@concurrent(max_inputs=...) above the class",
    "max_inputs": "@concurrent(max_inputs=...) above the class",
    "batch_max_size": "@batched(max_batch_size=..., wait_ms=...) on the method",
    "is_generator": "@method(is_generator=...) on the method",
}
_NO_MEANING = frozenset(
    {
        "cloud",
        "enable_memory_snapshot",
        "ephemeral_disk",
        "experimental_options",
        "i6pn",
        "include_source",
        "network_file_systems",
        "nonpreemptible",
        "proxy",
        "region",
        "restrict_modal_access",
        "routing_region",
        "schedule",
        "scheduler_placement",
        "serialized",
    }
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True)
class Retries:
    """How a failed input is tried again.

    The first new try comes after ``initial_delay`` seconds, each later one after
    ``backoff_coefficient`` times the delay before it, never more than ``max_delay`` seconds.
    Raises `InvalidError` for values that can't work.

    >>> [Retries(max_retries=3).delay(attempt) for attempt in (1, 2, 3)]
    [1.0, 2.0, 4.0]
    """

    max_retries: int
    initial_delay: float = 1.0
    backoff_coefficient: float = 2.0
    max_delay: float = 60.0

    def __post_init__(self) -> None:
        _whole(0)("max_retries", self.max_retries)
        for name, least in (("initial_delay", 0.0), ("backoff_coefficient", 1.0)):
            _number(least)(name, getattr(self, name))
        _number(self.initial_delay)("max_delay", self.max_delay)

    def delay(self, attempt: int) -> float:
        """Seconds before try number ``attempt`` after the first; 1 is the first new try."""
        grown = self.initial_delay * self.backoff_coefficient ** (attempt - 1)
        return float(min(grown, self.max_delay))


def _refuse(name: str, value: object, problem: str) -> InvalidError:
    return InvalidError(f"{name}={value!r} {problem}")


def _is_number(value: object) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(cast(float, value))


def _whole(least: int, unit: str = "") -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if not _is_number(value) or value != int(value) or value < least:
            of = f" of {unit}" if unit else ""
            raise _refuse(name, value, f"must be a whole number{of}, {least} or more")
        return int(value)

    return check


def _number(least: float, unit: str = "") -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        if not _is_number(value) or value < least:
            of = f" of {unit}" if unit else ""
            raise _refuse(name, value, f"must be a number{of}, {least:g} or more")
        return float(value)

    return check


def _above_zero(unit: str) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        if not _is_number(value) or value <= 0:
            raise _refuse(name, value, f"must be a number of {unit} above 0")
        return float(value)

    return check


def _limit(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Modal writes ``(request, limit)``; on one's own machine only the limit means something."""

    def checked(name: str, value: Any) -> Any:
        if not isinstance(value, tuple):
            return check(name, value)
        if len(value) != 2:
            raise _refuse(name, value, "must be one number, or a (request, limit) pair")
        request, limit = (check(name, part) for part in value)
        if request > limit:
            raise _refuse(name, value, "asks for more than its own limit: write (request, limit)")
        return limit

    return checked


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, value, "must be True or False")
    return value


def _gpu(name: str, value: Any) -> str | int:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise _refuse(name, value, "must be a count from 1 up, or a name such as 'any' or 'A100:2'")


def _engine(name: str, value: Any) -> str:
    if value not in ("auto", "docker", "process"):
        raise _refuse(name, value, "must be 'auto', 'docker' or 'process'")
    return cast(str, value)


def _retries(name: str, value: Any) -> Retries:
    if isinstance(value, Retries):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _refuse(name, value, "must be a whole number, 0 or more, or lm.Retries(...)")
    return Retries(max_retries=value)


def _image(name: str, value: Any) -> Image:
    from lifecycle_magic.image import Image

    if not isinstance(value, Image):
        hint = f"write Image.from_registry({value!r})" if isinstance(value, str) else "use Image"
        raise _refuse(name, value, f"must be an Image: {hint}")
    return value


def _env(name: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidError(f"{name} must be a mapping of names to texts, not a {_type(value)}")
    for key, text in value.items():
        if not isinstance(key, str) or not _ENV_NAME.match(key):
            raise InvalidError(f"{name}: {key!r} is no name of an environment variable")
        if not isinstance(text, str):  # the value itself may be a secret: never in a message
            raise InvalidError(f"{name}[{key!r}] must be a text, not a {_type(text)}: use str(...)")
        if "\0" in text:
            raise InvalidError(f"{name}[{key!r}] must not contain a NUL character")
    return dict(sorted(value.items()))


def _secrets(name: str, value: Any) -> tuple[Secret, ...]:
    from lifecycle_magic.secret import Secret

    if isinstance(value, Secret):
        raise InvalidError(f"{name} must be a list: write {name}=[secret]")
    if not isinstance(value, (list, tuple)) or not all(isinstance(s, Secret) for s in value):
        raise InvalidError(f"{name} must be a list of Secret objects: [Secret.from_dict(...)]")
    return tuple(value)


def _volumes(name: str, value: Any) -> Mapping[str, Volume]:
    from lifecycle_magic.volume import Volume, check_mount_path

    if not isinstance(value, Mapping):
        raise InvalidError(
            f"{name} must be a mapping of absolute paths to volumes, not a {_type(value)}: "
            '{"/weights": Volume.from_name("weights")}'
        )
    found: dict[str, Volume] = {}
    for given, volume in value.items():
        path = check_mount_path(given)
        if path in found:
            raise InvalidError(f"{name}: two volumes at {path}; give one of them another path")
        if not isinstance(volume, Volume):
            raise InvalidError(
                f"{name}[{path!r}] must be a Volume, not a {_type(volume)}: "
                "Volume.from_name(...), Volume.from_path(...) or Volume.ephemeral()"
            )
        found[path] = volume
    return dict(sorted(found.items()))


def _type(value: object) -> str:
    return type(value).__name__


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "image": _image,
    "env": _env,
    "secrets": _secrets,
    "volumes": _volumes,
    "cpu": _limit(_above_zero("cores")),
    "memory": _limit(_whole(1, "MiB")),
    "gpu": _gpu,
    "shm_size": _whole(1, "MiB"),
    "timeout": _above_zero("seconds"),
    "startup_timeout": _above_zero("seconds"),
    "retries": _retries,
    "min_containers": _whole(0),
    "max_containers": _whole(1),
    "buffer_containers": _whole(0),
    "scaledown_window": _above_zero("seconds"),
    "block_network": _flag,
    "exit_grace": _number(0, "seconds"),
    "engine": _engine,
}


@dataclass(frozen=True)
class Options:
    """What a class asks of its containers; make it with `Options.make`.

    ``image`` None is the default image. ``cpu`` is cores; ``memory`` and ``shm_size`` are MiB, None
    is the engine's default. ``timeout`` (one attempt of an input), ``startup_timeout`` (start and
    ``enter``), ``scaledown_window`` (idle before it goes; None: it stays for the session) and
    ``exit_grace`` are seconds. ``min_containers`` are kept, ``buffer_containers`` are spares above
    what is busy, ``max_containers`` None is no bound. ``engine`` None is the session's choice.
    """

    image: Image | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    cpu: float | None = None
    memory: int | None = None
    gpu: str | int | None = None
    shm_size: int | None = None
    timeout: float | None = None
    startup_timeout: float = 300.0
    retries: Retries | None = None
    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: float | None = None
    block_network: bool = False
    exit_grace: float = 30.0
    engine: Literal["auto", "docker", "process"] | None = None

    @classmethod
    def make(cls, where: str, /, **given: Any) -> Options:
        """Check the options ``given`` for the class called ``where``; None is "not given".

        Raises `InvalidError` that names the class, the option, its value and the mend.

        >>> Options.make("Model", cpu=2, memory=(512, 2048)).memory
        2048
        """
        return cls().replace(where, **given)

    def replace(self, where: str, /, **changes: Any) -> Options:
        """These options with ``changes``, checked like in `make`; None goes back to the default."""
        clean: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in _CHECKS:
                raise InvalidError(f"{where}: {_unknown(name)}")
            try:
                clean[name] = _default(name) if value is None else _CHECKS[name](name, value)
            except InvalidError as error:
                raise InvalidError(f"{where}: {error}") from None
        options = dataclasses.replace(self, **clean)
        least = max(options.min_containers, 1)
        if options.max_containers is not None and options.max_containers < least:
            raise InvalidError(
                f"{where}: max_containers={options.max_containers} is below "
                f"min_containers={options.min_containers}; raise the one or lower the other"
            )
        return options

    def identity(self) -> str:
        """A short digest (hex) of every option: equal only for equal options."""
        limits = [
            self.timeout,
            self.startup_timeout,
            self.retries,
            self.min_containers,
            self.max_containers,
            self.buffer_containers,
            self.scaledown_window,
        ]
        return hashlib.sha256(f"{self.key()}{limits}".encode()).hexdigest()[:16]

    def key(self) -> str:
        """A digest (hex) of what decides about a container, equal for equal options.

        Scaling, time limits and retries are not in it: changing those keeps warm containers. Local
        files that the image adds are read now. It is the same in every process, unless there
        are secrets: it may be shown, so their values go in under this process's own salt.
        """
        from lifecycle_magic.image import Image

        image = self.image or Image.debian_slim()
        told = {
            # An image's own key has the id of its base, which only an engine knows, not its name.
            "image": [image.reference, image.key(""), image.forced],
            "env": dict(self.env),
            "secrets": [_salted(secret.values()) for secret in self.secrets],
            "volumes": {path: _told(volume) for path, volume in self.volumes.items()},
            "cpu": self.cpu,
            "memory": self.memory,
            "gpu": self.gpu,
            "shm_size": self.shm_size,
            "block_network": self.block_network,
            "exit_grace": self.exit_grace,
            "engine": self.engine,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_SALT = os.urandom(32)


def _salted(values: Mapping[str, str]) -> str:
    told = json.dumps(sorted(values.items())).encode()
    return hmac.new(_SALT, told, hashlib.sha256).hexdigest()


def _told(volume: Volume) -> list[str]:
    return [volume.kind, str(volume), str(volume.create_if_missing)]


_FIELDS = {item.name: item for item in dataclasses.fields(Options)}


def _default(name: str) -> Any:
    item = _FIELDS[name]
    return item.default if item.default is not dataclasses.MISSING else {}


def _unknown(name: str) -> str:
    if name in _RENAMED:
        return f"{name} has a new name: use {_RENAMED[name]}"
    if name in _ON_THE_CLASS:
        return f"{name} is no option of the container: use {_ON_THE_CLASS[name]}"
    if name in _NO_MEANING:
        return f"{name} has no meaning on your own machine: remove it"
    near = difflib.get_close_matches(name, _CHECKS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(_CHECKS)}"
    return f"no option {name}: {hint}"
