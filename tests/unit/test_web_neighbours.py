"""Other users of the machine that listen on a port are named."""

from __future__ import annotations

import os
import socket

import pytest

from lifecycle_magic.web import address, site
from lifecycle_magic.web.port_users import foreign_listener


def test_another_user_s_listener_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert foreign_listener(port) is None
        own = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: own + 1)
        assert foreign_listener(port) is not None
        monkeypatch.setattr(address, "ports", lambda label: iter((port, 0)))
        sock, warning = site._bind("label")
        with sock:
            assert f"the usual port {port} is used by the user " in warning
        monkeypatch.setattr(os, "getuid", lambda: own)
        sock, warning = site._bind("label")
        sock.close()
        assert warning == ""
    assert foreign_listener(port) is None
