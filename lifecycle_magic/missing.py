"""What to do about a module that a container does not have."""

from __future__ import annotations

import importlib.util
import sys

from lifecycle_magic.digests import origin

# What to install is often called differently, and the kernel need not have it to tell by.
_KNOWN = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def mend(module: str, cls: str) -> str:
    """How the container of ``cls`` comes to have ``module``, in one or two sentences."""
    top = module.partition(".")[0]
    path = _beside(top)
    if path is not None:
        return (
            f"{path} lies beside the notebook, but nothing that {cls} refers to imports {top}, so "
            f"it did not travel: write import {top} in the cell of the class and use it there, or "
            "import it in the method that needs it."
        )
    if top in sys.stdlib_module_names:
        return f"{top} is of the standard library, but the Python of this image is without it."
    name, version = _distribution(top)
    here = f" (this kernel has {name} {version})" if version else ""
    sure = "" if version or top in _KNOWN else f", or whatever the package that has {top} is called"
    return (
        f"The image of {cls} does not have it{here}: "
        f'add .pip_install("{name}") to its image, or --pip {name} to the cell{sure}.'
    )


def _beside(top: str) -> str | None:
    if top in sys.stdlib_module_names or origin.is_ours(top):
        return None
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    path = found.origin if found is not None else None
    if path is None or not path.endswith(".py") or origin.is_installed_path(path):
        return None
    return path


def _distribution(top: str) -> tuple[str, str]:
    """The name of the package that has the module, and its version in this kernel if it is here."""
    from importlib import metadata

    found = metadata.packages_distributions().get(top)
    if found:
        return found[0], metadata.version(found[0])
    return _KNOWN.get(top, top), ""
