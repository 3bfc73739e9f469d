"""Addresses of web methods: labels, ports and the links that a browser can open."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lifecycle_magic.web import address


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("", "Digits", "predict_one"), "digits-predict-one"),
        (("my app!", "M", ""), "my-app-m"),
        (("", "", ""), "web"),
        (("x" * 80,), "x" * 63),
    ],
)
def test_labels_are_made_of_names(names: tuple[str, ...], label: str) -> None:
    assert address.label(*names) == label


def test_a_label_leads_to_the_same_ports_every_time_and_at_last_to_any() -> None:
    ports = list(address.ports("digits-predict"))
    assert ports == list(address.ports("digits-predict"))
    assert ports[-1] == 0
    assert len(set(ports)) == len(ports)
    assert all(20000 <= port < 30000 for port in ports[:-1])
    first = {next(address.ports(f"label-{n}")) for n in range(100)}
    assert len(first) > 90


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:80", "localhost"),
        ("LOCALHOST", "localhost"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
        ("[::1].evil.example", ""),
        ("localhost:80:evil", ""),
        ("evil@localhost", ""),
        ("localhost, evil.example", ""),
    ],
)
def test_the_host_of_a_header(header: str, host: str) -> None:
    assert address.host_of(header) == host


def test_who_may_be_called() -> None:
    assert address.allowed_hosts({}) == {"localhost", "127.0.0.1", "[::1]"}
    more = address.allowed_hosts({"LIFECYCLE_MAGIC_WEB_HOSTS": "box.lan, Other"})
    assert more is not None
    assert {"box.lan", "other", "localhost"} <= more
    assert address.allowed_hosts({"LIFECYCLE_MAGIC_WEB_HOSTS": "*"}) is None
    assert address.allowed_hosts({"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}) is None
    open_ = address.allowed_hosts({"LIFECYCLE_MAGIC_WEB_ADDRESS": "0.0.0.0"})
    assert open_ is not None
    assert "0.0.0.0" not in open_


def test_it_listens_on_the_loopback_unless_asked() -> None:
    assert address.bind_address({}) == "127.0.0.1"
    assert address.bind_address({"LIFECYCLE_MAGIC_WEB_ADDRESS": " "}) == "127.0.0.1"
    assert address.bind_address({"LIFECYCLE_MAGIC_WEB_ADDRESS": "0.0.0.0"}) == "0.0.0.0"


@pytest.mark.parametrize(
    ("environ", "link"),
    [
        ({}, "http://127.0.0.1:8/"),
        ({"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}, "/user/me/proxy/8/"),
        ({"VSCODE_PROXY_URI": "https://x.y/proxy/{{port}}/"}, "https://x.y/proxy/8/"),
        ({"VSCODE_PROXY_URI": ""}, "http://127.0.0.1:8/"),
    ],
)
def test_links_lead_through_what_the_kernel_runs_behind(environ: dict[str, str], link: str) -> None:
    assert address.link("http://127.0.0.1:8/", 8, environ) == link


def test_ports_are_below_those_that_the_system_hands_out() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = itertools.islice(address.ports("any"), address.PORT_ATTEMPTS)
    assert max(ports) < max(low, 30001)
