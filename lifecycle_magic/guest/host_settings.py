"""Settings of the kernel's machine applied to the worker: proxies, time zone, umask, user.

This happens once, before the user's class is loaded, and still as root.
"""

from __future__ import annotations

import os
import time

from lifecycle_magic.wire.host_settings import HostSettings, Zone

_ZONES = "/usr/share/zoneinfo"
_LOCALTIME = "/etc/localtime"


def apply(settings: HostSettings, run: str) -> None:
    """Apply the settings ``settings`` to this process. ``run`` is the run folder.

    Variables that the image or the class sets override the kernel's environment. Raises
    `StartError` for a user that the image does not have.
    """
    account = settings.account
    for name, value in settings.env.items():
        os.environ.setdefault(name, value)
    if settings.zone is not None:
        # The files of a build hook become a layer of the image, whose key does not cover the zone.
        in_hook = account is not None and account.hook
        _set_zone(settings.zone, run if in_hook else None)
    if settings.umask is not None:
        os.umask(settings.umask)
    if account is not None:
        from lifecycle_magic.guest import user_account as accounts

        accounts.switch_user(account, settings.folders)


def _set_zone(zone: Zone, folder: str | None) -> None:
    """Make ``zone`` the local time zone. A file that it needs is written below ``folder`` if
    given.
    """
    wanted = os.environ.get("TZ")
    if wanted is not None and wanted != zone.name:
        return  # the zone of the image, or one without a file in the kernel
    if wanted is None and not zone.chosen and _is_local(zone):
        return
    os.environ["TZ"] = _install(zone, folder) if zone.data else zone.name
    time.tzset()


def _is_local(zone: Zone) -> bool:
    """Return whether the image's local time is ``zone`` already."""
    try:
        with open(_LOCALTIME, "rb") as file:
            return file.read() == zone.data
    except OSError:
        return zone.data.endswith(b"\nUTC0\n")  # without that file, local time is UTC


def _install(zone: Zone, folder: str | None) -> str:
    """Return the value of ``TZ`` for ``zone``, and write its file if the image lacks it."""
    path = os.path.join(_ZONES, zone.name)
    if zone.name and os.path.isfile(path):
        return zone.name
    if zone.name and folder is None:
        try:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            _write(path, zone.data)
            return zone.name
        except OSError:
            pass  # a read-only system
    path = os.path.join(folder or "/tmp", ".lifecycle-localtime")
    _write(path, zone.data)
    return f":{path}"


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o644)
