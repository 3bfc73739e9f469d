"""The environment variables of the class. They arrive when the interpreter runs already."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

__all__ = ["set_variables"]


def set_variables(given: Mapping[str, str]) -> None:
    """Set the variables of the class, and those that programs for Modal read.

    Python reads ``PYTHONPATH`` when it starts only, so its folders are added to ``sys.path`` here,
    where Python has them: behind the folder of the program.
    """
    os.environ.update({**_of_modal(), **given})
    folders = [one for one in given.get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[1:1] = [one for one in dict.fromkeys(folders) if one not in sys.path]


def _of_modal() -> dict[str, str]:
    return {
        "MODAL_IS_REMOTE": "1",
        "MODAL_TASK_ID": f"ta-{os.urandom(11).hex()}",
        "MODAL_ENVIRONMENT": "main",
        "MODAL_CLOUD_PROVIDER": "local",
        "MODAL_REGION": "local",
    }
