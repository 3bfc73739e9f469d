"""The ``__main__`` of a child that `multiprocessing` starts without a fork.

`multiprocessing` runs this module under the name ``__mp_main__`` and takes its names for those of
the child's ``__main__``. Importing it under its own name does nothing.
"""

from __future__ import annotations

from lifecycle_magic.guest.spawned_children import load_definitions

if __name__ == "__mp_main__":
    globals().update(
        {name: value for name, value in load_definitions().items() if name[:2] != "__"}
    )
