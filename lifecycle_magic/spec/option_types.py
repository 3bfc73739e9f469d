"""The types of options as users write them, for type checkers and for what an editor shows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from lifecycle_magic.spec.options import Options, declared

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image
    from lifecycle_magic.secret import Secret
    from lifecycle_magic.spec.retries import Retries
    from lifecycle_magic.volume import Volume

__all__ = ["ModalOptionTypes", "OptionTypes", "takes_options"]

F = TypeVar("F", bound=Callable[..., Any])


class OptionTypes(TypedDict, total=False):
    """The keyword arguments of ``@app.cls``, ``@app.function``, ``App`` and ``with_options``."""

    image: Image | None
    env: Mapping[str, str] | None
    secrets: Sequence[Secret] | None
    volumes: Mapping[Any, Volume] | None
    cpu: float | tuple[float, float] | None
    memory: int | tuple[int, int] | None
    gpu: str | int | Sequence[str | int] | None
    gpu_memory: int | None
    shm_size: int | None
    timeout: float | None
    startup_timeout: float | None
    retries: int | Retries | None
    min_containers: int | None
    max_containers: int | None
    buffer_containers: int | None
    scaledown_window: float | None
    single_use_containers: bool | None
    drop_frames: bool | None
    block_network: bool | None
    exit_grace: float | None
    keep: float | str | None
    engine: str | None
    placement: Sequence[str] | None


class ModalOptionTypes(OptionTypes, total=False):
    """The same, with Modal's options that do nothing here, and those under their old names."""

    allow_concurrent_inputs: int | None
    cloud: str | None
    concurrency_limit: int | None
    container_idle_timeout: int | None
    enable_memory_snapshot: bool | None
    ephemeral_disk: int | None
    experimental_options: Mapping[str, Any] | None
    i6pn: bool | None
    include_source: bool | None
    keep_warm: int | None
    max_inputs: int | None
    mounts: Sequence[Any]
    network_file_systems: Mapping[Any, Volume]
    nonpreemptible: bool
    proxy: None
    region: str | Sequence[str] | None
    restrict_modal_access: bool
    routing_region: str | None
    serialized: bool


def takes_options(function: F) -> F:
    """Show every option in the signature and the docstring of ``function``, which takes them as
    ``**options``.
    """
    signature = inspect.signature(function)
    kept = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    types = OptionTypes.__annotations__
    defaults = Options()
    more = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(defaults, name),
            annotation=_text_of(types[name]),
        )
        for name in declared()
        if name not in signature.parameters
    ]
    function.__signature__ = signature.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
    lines = [f"{name}: {one.help}" for name, one in declared().items()]
    text = inspect.cleandoc(function.__doc__ or "")
    function.__doc__ = "\n".join([text, "", "Options:", *(f"    {line}" for line in lines)])
    return function


def _text_of(annotation: Any) -> str:
    """Return an annotation as written above; its names are imported for type checkers only."""
    return getattr(annotation, "__forward_arg__", str(annotation))
