"""The options of a class, each declared once: type, check, help, and what it decides.

`Options.make` takes what ``@app.cls``, ``with_options`` or the cell magic were given and returns a
frozen record in which every value has its final form: MiB, cores, seconds, tuples. Impossible
values are refused here, by option, class and value, so no other module checks again. Whether the
machine or the engine has as much (more cores than there are) is decided elsewhere.

The flags of the magic, the digests of a container and the signatures that an editor shows follow
from the fields of `Options`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host import salt
from lifecycle_magic.spec import option_checks as checks
from lifecycle_magic.spec.number_checks import above_zero, duration, limit, number, whole
from lifecycle_magic.spec.old_options import current_names
from lifecycle_magic.spec.unknown_options import explain_unknown

if TYPE_CHECKING:
    from lifecycle_magic.gpus.request import GpuRequest
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.secret import Secret
    from lifecycle_magic.spec.retries import Retries
    from lifecycle_magic.volume import Volume

__all__ = ["DeclaredOption", "Options", "declared"]


MAX_KEEP_SECONDS = 86_400.0
"""The most seconds for which a container waits for another kernel: a day."""


class DeclaredOption(NamedTuple):
    """The declaration of one option.

    ``value`` names its value in a flag of the magic; None means that the magic has no flag of that
    name, "" that it is a switch. ``digest`` returns what counts of a value for the identity of a
    container; None means that a change of the option keeps containers.
    """

    check: Callable[[str, Any], Any]
    help: str
    value: str | None
    digest: Callable[[Any], Any] | None


def _same(value: Any) -> Any:
    return value


def _digest_of_image(image: Image | None) -> list[Any]:
    from lifecycle_magic.images.image import Image

    image = image or Image.debian_slim()
    # An image's own key has the id of its base, which only an engine knows, not its name.
    return [image.reference, image.key(""), image.forced]


def _digest_of_secrets(secrets: tuple[Secret, ...]) -> list[str]:
    return [_salted(secret.values()) if secret.is_stored() else repr(secret) for secret in secrets]


def _digest_of_volumes(volumes: Mapping[str, Volume]) -> dict[str, list[str]]:
    return {
        path: [
            *(volume.kind, str(volume), str(volume.create_if_missing)),
            *(["read-only"] if volume.is_read_only else []),
        ]
        for path, volume in volumes.items()
    }


def _option(
    check: Callable[[str, Any], Any],
    help: str,
    value: str | None = None,
    *,
    digest: Callable[[Any], Any] | None = _same,
    default: Any = None,
) -> Any:
    metadata = {"declared": DeclaredOption(check, help, value, digest)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """The options of a class; `Options.make` checks them.

    Times are seconds, sizes MiB. None stands for the default of the image, the engine or the
    session, and of ``timeout``, ``max_containers`` and ``scaledown_window`` for no limit.
    """

    image: Image | None = _option(
        checks.image,
        "the image, an `Image`; by default Debian with this kernel's Python",
        digest=_digest_of_image,
    )
    env: Mapping[str, str] = _option(checks.env, "environment variables", default={})
    secrets: tuple[Secret, ...] = _option(
        checks.secrets,
        "`Secret` objects: environment variables that are never shown",
        default=(),
        digest=_digest_of_secrets,
    )
    volumes: Mapping[str, Volume] = _option(
        checks.volumes,
        "`Volume` objects by the absolute path that each is mounted at",
        default={},
        digest=_digest_of_volumes,
    )
    cpu: float | None = _option(
        limit(above_zero("cores")), "cores, at most those of this machine", "CORES"
    )
    memory: int | None = _option(limit(whole(1, "MiB")), "memory limit in MiB", "MIB")
    gpu: str | int | tuple[str | int, ...] | None = _option(
        checks.gpu, "a count, 'any', a name such as 'A100:2', or a list of alternatives", "GPU"
    )
    gpu_memory: int | None = _option(
        whole(1, "MiB"), "a share of one GPU's memory in MiB; counted, not enforced", "MIB"
    )
    shm_size: int | None = _option(whole(1, "MiB"), "size of /dev/shm in MiB", "MIB")
    timeout: float | None = _option(
        above_zero("seconds"),
        "how long one attempt of a call may take",
        "SECONDS",
        digest=None,
    )
    startup_timeout: float = _option(
        above_zero("seconds"),
        "how long the start and @enter may take",
        "SECONDS",
        digest=None,
        default=300.0,
    )
    retries: Retries | None = _option(
        checks.retries, "how often a failed call is tried again", "COUNT", digest=None
    )
    min_containers: int = _option(
        whole(0), "containers that are kept although idle", "COUNT", digest=None, default=0
    )
    max_containers: int | None = _option(
        whole(1), "containers there may be at once", "COUNT", digest=None
    )
    buffer_containers: int = _option(
        whole(0),
        "spare containers above the busy ones",
        "COUNT",
        digest=None,
        default=0,
    )
    scaledown_window: float | None = _option(
        above_zero("seconds"),
        "idle time before a container stops (default: it stays)",
        "SECONDS",
        digest=None,
    )
    single_use_containers: bool = _option(
        checks.flag, "each container runs one input, then exits", "", digest=None, default=False
    )
    drop_frames: bool = _option(
        checks.flag,
        "free the frames of an exception at once: %debug then finds none",
        "",
        default=False,
    )
    block_network: bool = _option(checks.flag, "no network in the container", "", default=False)
    exit_grace: float = _option(
        number(0, "seconds"), "how long exit hooks may take", "SECONDS", default=30.0
    )
    keep: float | None = _option(
        duration(MAX_KEEP_SECONDS),
        "how long it waits for the next kernel of the notebook, as in 15m (default: not at all)",
        "TIME",
        digest=None,
    )
    engine: str | None = _option(
        checks.engine, "auto, docker, process, swarm, ssh://user@host, tcp://host:2376", "ENGINE"
    )
    placement: tuple[str, ...] = _option(
        checks.placement,
        "constraints on the nodes of a swarm, as in node.labels.zone==a",
        "CONSTRAINT...",
        default=(),
    )

    @classmethod
    def make(cls, where: str, /, **given: Any) -> Options:
        """Return the options ``given`` for the class called ``where``, checked; None means "not
        given".

        Raises `InvalidError` that names the class, the option, its value and the fix.

        >>> Options.make("Model", cpu=2, memory=(512, 2048)).memory
        2048
        """
        return cls().replace(where, **given)

    def replace(self, where: str, /, **changes: Any) -> Options:
        """Return these options with ``changes``, checked as in `make`; None restores a default."""
        clean: dict[str, Any] = {}
        for name, value in current_names(where, changes, self).items():
            if name not in _DECLARED:
                from lifecycle_magic.modal_api.table import find, notice

                entry = find("options", f"{name}=")
                if entry is not None and value is None:
                    continue  # Modal's "not given"
                if entry is not None and entry.verdict == "ignored":
                    notice("options", name, entry.note)
                    continue
                raise InvalidError(f"{where}: {explain_unknown(name, _DECLARED)}")
            try:
                check = _DECLARED[name].check
                clean[name] = getattr(_DEFAULTS, name) if value is None else check(name, value)
            except InvalidError as error:
                raise InvalidError(f"{where}: {error}") from None
        options = dataclasses.replace(self, **clean)
        least = max(options.min_containers, 1)
        if options.max_containers is not None and options.max_containers < least:
            raise InvalidError(
                f"{where}: max_containers={options.max_containers} is below "
                f"min_containers={options.min_containers}. Fix: raise the one or lower the other"
            )
        try:
            options.gpu_requests()
        except ValueError as error:
            raise InvalidError(f"{where}: gpu={options.gpu!r} {error}") from None
        if options.keep is not None and options.engine == "swarm":
            raise InvalidError(
                f"{where}: keep={options.keep:g} does not work on a swarm, whose containers may be "
                "on any of its machines when the next kernel looks for them. Fix: remove keep, or "
                "use another engine"
            )
        return options

    def gpu_requests(self) -> tuple[GpuRequest, ...]:
        """Return the GPUs that a container gets, as alternatives; empty for none."""
        if self.gpu is None and self.gpu_memory is None:
            return ()
        from lifecycle_magic.gpus import request

        return request.read(self.gpu, self.gpu_memory)

    @property
    def variables(self) -> frozenset[str]:
        """Return the names of the environment variables that ``env`` and ``secrets`` set."""
        return frozenset((*self.env, *(name for one in self.secrets for name in one.names())))

    def identity(self) -> str:
        """Return a short digest (hex) of every option: equal only for equal options."""
        kept = [getattr(self, name) for name, one in _DECLARED.items() if one.digest is None]
        return hashlib.sha256(f"{self.key()}{kept}".encode()).hexdigest()[:16]

    def key(self) -> str:
        """Return a digest (hex) of what decides about a container, equal for equal options.

        Scaling, time limits and retries are not in it: changing those keeps warm containers. Local
        files that the image adds are read now. It is the same in every process, unless there
        are secrets: it may be shown, so their values go in under the state folder's own salt.
        """
        parts = {
            name: one.digest(getattr(self, name))
            for name, one in _DECLARED.items()
            if one.digest is not None
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def declared() -> Mapping[str, DeclaredOption]:
    """Return what is declared of each option, by its name and in order."""
    return _DECLARED


def _salted(values: Mapping[str, str]) -> str:
    text = json.dumps(sorted(values.items())).encode()
    return hmac.new(salt.of_state_folder(), text, hashlib.sha256).hexdigest()


_DECLARED: dict[str, DeclaredOption] = {
    field.name: field.metadata["declared"] for field in dataclasses.fields(Options)
}
_DEFAULTS = Options()
