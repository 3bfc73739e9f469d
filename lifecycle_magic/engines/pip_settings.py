"""Pip's own settings, read where pip reads them, and in uv's words.

uv reads none of pip's settings, and a package has to be found wherever the user's pip finds it. The
source of this module also runs in containers, with the Python of any image: it imports nothing but
the standard library.
"""

from __future__ import annotations

import configparser
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing
    from collections.abc import Mapping

    Settings = dict[str, list[str]]

LISTS = (
    "extra-index-url",
    "find-links",
    "trusted-host",
    "constraint",
    "no-binary",
    "only-binary",
)
"""Options of pip that may be given more than once; a setting has them in one text."""

_SINGLE = (
    "index-url",
    "no-index",
    "cert",
    "client-cert",
    "proxy",
    "timeout",
    "default-timeout",
    "retries",
    "pre",
    "no-deps",
    "require-hashes",
    "no-build-isolation",
    "keyring-provider",
)

_PATHS = ("find-links", "constraint", "cert", "client-cert")

# Variables of uv for options of pip, and what separates their values.
_VARIABLES = {
    "index-url": ("UV_INDEX_URL", " "),  # not UV_DEFAULT_INDEX: that wins over --index-url
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "retries": ("UV_HTTP_RETRIES", " "),
}
_SWITCHES = {
    "pre": ("UV_PRERELEASE", "allow"),
    "no-build-isolation": ("UV_NO_BUILD_ISOLATION", "1"),
    "require-hashes": ("UV_REQUIRE_HASHES", "1"),
}
_UVS_OWN = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE")
_OFF = ("", "0", "n", "no", "f", "false", "off")


def read(host: Mapping[str, str], prefix: str = sys.prefix) -> Settings:
    """Return pip's settings: from its configuration files, then from ``PIP_*`` of ``host``.

    Options without a value are left out. A file that can't be read has none: pip itself says so.
    """
    parser = configparser.RawConfigParser()
    values: dict[tuple[str, str], str] = {}
    for path in _files(host, prefix):
        parser.clear()
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            for name, value in parser.items(section) if parser.has_section(section) else ():
                values[section, name.replace("_", "-")] = value
    found: Settings = {}
    for option in (*LISTS, *_SINGLE):
        variable = "PIP_" + option.replace("-", "_").upper()
        candidates = (
            host.get(variable),
            values.get(("install", option)),
            values.get(("global", option)),
        )
        text = next((one for one in candidates if one and one.strip()), "")
        if text:
            found[option] = text.split() if option in LISTS else [text.strip()]
            if option in _PATHS:
                found[option] = [_absolute(value) for value in found[option]]
    return found


def _absolute(value: str) -> str:
    """Return a path as an absolute one; a URL stays."""
    return value if "://" in value else os.path.abspath(os.path.expanduser(value))


def _files(host: Mapping[str, str], prefix: str) -> list[str]:
    """Return the paths of pip's configuration files, the most general first."""
    own = host.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    home = host.get("HOME", "/")
    folders = host.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [os.path.join(one, "pip", "pip.conf") for one in folders.split(os.pathsep) if one]
    files.append("/etc/pip.conf")
    if not (own and os.path.exists(own)):
        files.append(os.path.join(home, ".pip", "pip.conf"))
        settings = host.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        files.append(os.path.join(settings, "pip", "pip.conf"))
    files.append(os.path.join(prefix, "pip.conf"))
    return [*files, *([own] if own else [])]


def merged(first: Settings, second: Settings) -> Settings:
    """Return both, where a single value of ``first`` wins and lists are joined."""
    found = dict(second)
    for option, values in first.items():
        joined = [*values, *second.get(option, ())] if option in LISTS else values
        found[option] = list(dict.fromkeys(joined))
    return found


def uv_variables(settings: Settings, host: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables for ``settings``. Indexes that ``host`` sets for uv stand as they are.

    >>> uv_variables({"extra-index-url": ["https://a", "https://b"]}, {})["UV_INDEX"]
    'https://a https://b'
    """
    found = {}
    indexes_known = any(name in host for name in _UVS_OWN)
    for option, (variable, separator) in _VARIABLES.items():
        is_index = option in ("index-url", "extra-index-url", "find-links")
        if option in settings and not (is_index and indexes_known):
            found[variable] = separator.join(settings[option])
    if "UV_INDEX" in found:  # pip looks at all of its indexes, uv at the first that has the name
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    for option, (variable, value) in _SWITCHES.items():
        if settings.get(option, [""])[0].lower() not in _OFF:
            found[variable] = value
    if settings.get("keyring-provider", [""])[0] in ("import", "subprocess"):
        found["UV_KEYRING_PROVIDER"] = "subprocess"
    for name in ("http_proxy", "https_proxy"):
        if "proxy" in settings:
            found[name] = found[name.upper()] = settings["proxy"][0]
    return found


def uv_options(settings: Settings) -> list[str]:
    """Return options of ``uv pip install`` for what it has no variables for.

    >>> uv_options({"no-binary": ["numpy,scipy"]})
    ['--no-binary=numpy', '--no-binary=scipy']
    """
    options = []
    for option in ("no-binary", "only-binary"):
        names = [name for value in settings.get(option, ()) for name in value.split(",") if name]
        options += [f"--{option}={name}" for name in names]
    for switch in ("no-deps", "no-index"):
        if settings.get(switch, [""])[0].lower() not in _OFF:
            options.append(f"--{switch}")
    return options


def pip_variables(settings: Settings) -> dict[str, str]:
    """Return pip's own variables for ``settings``."""
    return {
        "PIP_" + option.replace("-", "_").upper(): ("," if "binary" in option else " ").join(values)
        for option, values in settings.items()
    }
