"""Images and named volumes that the process engine keeps between sessions, and their removal."""

from __future__ import annotations

from lifecycle_magic.engines.base import Kept
from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.engines.process.mounts import mounted
from lifecycle_magic.engines.process.store import Store, tree_size


def images(store: Store) -> list[Kept]:
    """Return every image, with its size on disk including its environment."""
    running = {one.image for one in store.instances()}
    found = []
    for key in store.images():
        record, place = store.image(key), store.place("images", key)
        size = tree_size(place)
        size += tree_size(store.place("venvs", record.venv)) if record else 0
        found.append(Kept("image", key, size, place.stat().st_mtime, key in running))
    return found


def prune_images(store: Store, keep: frozenset[str]) -> list[str]:
    """Remove images that are neither in ``keep`` nor in use; return what was removed."""
    in_use = {one.image for one in store.instances()}
    removed = []
    for key in store.images():
        if key not in keep and key not in in_use:
            store.discard(store.place("images", key))
            removed.append(f"image {key}")
    return removed


def volumes(store: Store) -> list[Kept]:
    """Return every named volume, with its size on disk."""
    in_use = mounted(store)
    found = []
    for name in store.volumes():
        place = store.place("volumes", name)
        used = name in in_use
        found.append(Kept("volume", name, tree_size(place), place.stat().st_mtime, used))
    return found


def remove_volume(store: Store, name: str) -> bool:
    """Remove a named volume and its content; return False if it is in use or does not exist."""
    if name in mounted(store) or name not in store.volumes():
        return False
    remove_tree(str(store.place("volumes", name)))
    return True
