"""A version of a class: what one run of its cell declared.

The class is kept as bytes, and so are the modules that go with it. What runs is what was declared
then, whatever the notebook's names mean by now.
"""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_magic.digests import origin
from lifecycle_magic.engines.base import Engine, Launch
from lifecycle_magic.exception import InvalidError, SerializationError
from lifecycle_magic.image import Image
from lifecycle_magic.services import bundle
from lifecycle_magic.services.home import Home, Notices
from lifecycle_magic.spec import ClassSpec

__all__ = ["Version"]


@dataclass(frozen=True, eq=False)
class Version:
    """One declaration of the class, and the engine that it was declared for."""

    spec: ClassSpec
    engine: Engine
    code: bundle.Code

    @classmethod
    def of(cls, spec: ClassSpec, home: Home, notices: Notices) -> Version:
        """``spec``, as it is now.

        Raises `SerializationError` for what can't be pickled, `InvalidError` for modules that are
        too large to travel, and `EngineUnavailable` when the engine does not answer.
        """
        code = _pack(spec)
        if spec.unreadable:
            notices.once(
                f"changes of {', '.join(spec.unreadable)} can't be seen: after one, start "
                "new containers by hand (--fresh in the cell, or %lifecycle restart)",
                "warning",
            )
        return cls(spec, home.engine(spec.options.engine), code)

    @property
    def image(self) -> Image:
        """The recipe that it asks for."""
        return self.spec.options.image or Image.debian_slim()

    def ignored(self, name: str, launch: Launch | None = None) -> tuple[str, ...]:
        """What its engine does not do of its image, and of ``launch`` if that is given, and goes on
        without. Raises `InvalidError`, for the class called ``name``, for what the engine refuses.
        """
        honoured = self.engine.review(self.image, launch)
        if honoured.refused:
            raise InvalidError(f"{name}: {'; '.join(honoured.refused)}")
        return honoured.ignored


def _pack(spec: ClassSpec) -> bundle.Code:
    try:
        spec.read_now()
        named = spec.options.image.python_sources if spec.options.image else ()
        files = {name: path for name in named if (path := origin.file_of(name))}
        return bundle.pack(spec.cls, {**spec.modules, **files})
    except InvalidError:
        raise
    except Exception as error:
        raise SerializationError(
            f"{spec.name} can't travel to a container: {error}. Something that it refers to "
            "can't be pickled; make it in an @enter method, not at the top of the notebook."
        ) from None
