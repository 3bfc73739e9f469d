"""A version of a class: what one run of its cell declared.

The class and the modules that it imports are kept as bytes. So containers run the code as it was
declared, even if the notebook's names have changed since.
"""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_magic.engines.base import Engine, Launch
from lifecycle_magic.exception import InvalidError, SerializationError
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.images.image import Image
from lifecycle_magic.services import bundle
from lifecycle_magic.services.context import ClassNotices, SessionContext
from lifecycle_magic.services.replaced_names import replaced_names
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.wire.python_versions import enable_sources

__all__ = ["Version"]

LARGE_VALUE_BYTES = 50 << 20
"""A value of this many bytes or more is reported, because it travels to each container."""


@dataclass(frozen=True, eq=False)
class Version:
    """One declaration of a class, and the engine that runs it.

    ``any_python`` says that the code was packed for a Python that may not be the kernel's.
    """

    spec: ClassSpec
    engine: Engine
    code: bundle.Code
    any_python: bool = False

    @classmethod
    def of(
        cls,
        spec: ClassSpec,
        context: SessionContext,
        notices: ClassNotices,
        image: Image | None = None,
    ) -> Version:
        """Return the version of ``spec`` with the code in its current state.

        ``image`` is where it runs, if that is not the image of its options.

        Raises `SerializationError` for values that can't be pickled, `InvalidError` for modules
        that are too large to travel, and `EngineUnavailable` if the engine does not answer.
        """
        python = (image or spec.options.image or Image.debian_slim()).other_python
        if python != "":
            enable_sources()  # arguments travel to that Python too
        code = _pack(spec, python)
        if spec.unreadable:
            notices.show_once(
                f"changes of {', '.join(spec.unreadable)} can't be detected. Fix: after a change, "
                "start new containers (--fresh in the cell, or %lifecycle restart)",
                "warning",
            )
        for name, size in code.sizes.items():
            if size >= LARGE_VALUE_BYTES:
                notices.show_once(
                    f"{spec.name}: {name} is {size >> 20} MiB and is sent to each container. "
                    "Fix: load it in an @enter method, or put it in a volume",
                    "warning",
                )
        version = cls(spec, context.engine(spec.options.engine), code, python != "")
        version.report_replaced(notices)
        return version

    def report_replaced(self, notices: ClassNotices) -> None:
        """Report what means something else in the notebook than in a container: names of modules,
        and parts of loggers that can't travel.
        """
        for text in replaced_names(self.code.functions, self.code.imports):
            notices.show_once(f"{self.spec.name}: {text}", "warning")
        for text in self.code.left_behind:
            notices.show_once(f"{self.spec.name}: {text}", "warning")

    @property
    def image(self) -> Image:
        """The recipe of its image."""
        return self.spec.options.image or Image.debian_slim()

    def review(self, name: str, launch: Launch | None = None) -> tuple[str, ...]:
        """Return the options of the image, and of ``launch`` if given, that the engine ignores.

        Raises `InvalidError`, about the class called ``name``, for options that it refuses.
        """
        review = self.engine.review(self.image, launch)
        if review.refused:
            raise InvalidError(f"{name}: {'; '.join(review.refused)}")
        return review.ignored


def _pack(spec: ClassSpec, python: str | None) -> bundle.Code:
    try:
        spec.read_now()
        named = spec.options.image.python_sources if spec.options.image else ()
        files = {name: path for name in named if (path := origin.file_of(name))}
        variables = spec.options.variables
        return bundle.pack(spec.cls, {**spec.modules, **files}, python=python, variables=variables)
    except SerializationError as error:
        raise SerializationError(f"{spec.name} can't be sent to a container: {error}") from None
    except InvalidError:
        raise
    except Exception as error:
        raise SerializationError(
            f"{spec.name} can't be sent to a container: {str(error).rstrip('.')}. A value that it "
            "refers to can't be pickled. Fix: create it in an @enter method, not at the top of the "
            "notebook."
        ) from None
