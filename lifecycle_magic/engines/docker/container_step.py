"""Steps of an image in a container that is committed, for those that a Dockerfile can't hold.

A step that sees secrets or volumes runs so: its secrets travel through the container's standard
input, so they are in no configuration, history or layer. A file that the step wrote with a
secret's value in it fails the step. On Podman every command runs so, for there an interrupt does
not end a command that its builder runs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import inspect
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.base import LABEL, STEP, VolumeMount
from lifecycle_magic.engines.docker import host_settings, launch
from lifecycle_magic.engines.docker.api import create_container, discard_container, image_id
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.commit import commit
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.names import ROLE, tag
from lifecycle_magic.engines.docker.progress import StepOutputTail
from lifecycle_magic.engines.docker.required_mounts import require_volumes
from lifecycle_magic.engines.process import environments
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.guest import secret_search
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.images.package_steps import AptInstall, PipInstall
from lifecycle_magic.images.step_access import StepAccess
from lifecycle_magic.images.steps import RunCommand, Step
from lifecycle_magic.wire.host_settings import HOST

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["body", "can_run", "execute", "given_to", "key_of", "run", "step_container"]

_FOUND = 78  # EX_CONFIG of sysexits(3)

# Isolated: neither the working folder's files nor the image's variables change what it does.
# The kernel keeps the other end of the standard input open as long as it lives.
_PRELUDE = """
import json, subprocess, sys, threading, time
given = json.loads(sys.stdin.buffer.readline() or "null")
kernel = os.dup(0)
def end_with_kernel():
    while given is not None and os.read(kernel, 1):
        pass
    os._exit(1)
threading.Thread(target=end_with_kernel, daemon=True).start()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
began = time.time()
code = subprocess.call(sys.argv[1:], env={**os.environ, **given["env"], **given["secrets"]})
found = None if code or not given["secrets"] else find(given["secrets"], ["/"], began)
if found is not None:
    print(message(*found), flush=True)
    code = CODE
sys.exit(code if code >= 0 else 128 - code)
"""


def run(
    clients: Clients, facts: Facts, step: Step, below: str, reporter: StepReporter, *, anew: bool
) -> str:
    """Carry out a step on top of the image ``below`` and return the id of the result.

    ``reporter`` is the step's; ``anew`` repeats a finished step. Raises `BuildError` if its command
    fails, `NotFoundError` for a secret that is not stored.
    """
    key = key_of("container step", step, below)
    reporter.report_start()
    if not anew and (known := image_id(clients, tag(key))) is not None:
        reporter.report_end("cached")
        return known
    words = json.loads(step.instruction("").removeprefix("RUN "))
    try:
        proxies, withheld = host_settings.of_build()
        for text in withheld:
            reporter.report_output(f"{text}\n")
        given = given_to(step, proxies) if step.access else None
        if given is None and proxies:
            words = ["env", *(f"{name}={value}" for name, value in proxies.items()), *words]
        with step_container(clients, key) as container:
            with clients.use("run a step of the image") as api:
                mounts = _mounts(api, step.access, facts)
                config = body(below, words, facts, mounts, given=given is not None)
                create_container(api, config, container)
                printed = StepOutputTail(reporter.report_output)
                code = execute(api, container, printed, given)
            if code:
                raise printed.failure(reporter, code)
            made = commit(clients, container, key)
    except BaseException:
        reporter.report_end("failed")
        raise
    reporter.report_end("done")
    return made


@contextlib.contextmanager
def step_container(clients: Clients, key: str) -> Iterator[str]:
    """Yield the name of a container for a step, and remove the container after the block.

    It is removed by its name, because an interrupt may leave one whose id was never received, and
    also if this process ends inside the block. If the process is killed, the container ends with
    its standard input, and the next session's sweep removes it.
    """
    name = f"lm-build-{key[:12]}-{secrets.token_hex(4)}"
    remove = functools.partial(discard_container, clients, name)
    atexit.register(remove)
    try:
        yield name
    finally:
        remove()
        atexit.unregister(remove)


def can_run(step: Step) -> bool:
    """Return whether `run` can carry out ``step``: a command, given word by word."""
    return step.instruction("").startswith("RUN [")


def key_of(kind: str, step: Step, below: str) -> str:
    """Return the key of the image that ``step`` makes of the image ``below``."""
    text = f"{kind} {below} {step.instruction('')}"
    if step.access:
        text += json.dumps(step.access.parts())
    return hashlib.sha256(text.encode()).hexdigest()


def given_to(step: Step, env: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what a step's container gets through its standard input."""
    own = dict(step.env) if isinstance(step, AptInstall | PipInstall | RunCommand) else {}
    secret = {name: value for name, value in step.access.values().items() if name not in own}
    return {"env": {**env, **own}, "secrets": secret}


def body(
    image: str,
    words: Sequence[str],
    facts: Facts,
    mounts: Sequence[dict[str, Any]],
    *,
    given: bool = False,
) -> dict[str, Any]:
    """Return the body of ``POST /containers/create`` for a command in ``image``.

    With ``given`` it waits for what `execute` sends it first.
    """
    host: dict[str, Any] = launch.mounted(mounts, facts)
    if facts.host_gateway:
        host["ExtraHosts"] = [f"{HOST}:host-gateway"]
    if facts.secured_by("selinux"):
        host["SecurityOpt"] = ["label=disable"]
    if facts.secured_by("userns"):
        host["UsernsMode"] = "host"
    if given:
        code = inspect.getsource(secret_search) + _PRELUDE.replace("CODE", str(_FOUND))
        words = ["python3", "-I", "-c", code, *words]
    return {
        "Image": image,
        "Entrypoint": list(words),
        "Cmd": [],
        "Labels": {ROLE: "container", f"{LABEL}.owner": Owner.me().label(), STEP: "step"},
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": given,
        "StdinOnce": given,
        "HostConfig": host,
    }


def execute(
    api: APIClient,
    container: str,
    on_output: Callable[[str], None],
    given: Mapping[str, Mapping[str, str]] | None = None,
) -> int:
    """Start the container, pass on what it prints, and return its exit code.

    ``given`` is sent to its standard input; values of secrets in what it prints are hidden.
    """
    stream: Iterator[bytes] = api.attach(container, stream=True, logs=True)
    if given is not None:
        socket = api.attach_socket(container, params={"stdin": 1, "stream": 1})
    api.start(container)
    if given is not None:
        # Not closed here: the client closes it with the answer that it belongs to.
        getattr(socket, "_sock", socket).sendall(json.dumps(given).encode() + b"\n")
    hidden = list(given["secrets"].values()) if given is not None else []
    line = ""
    for chunk in stream:
        text = environments.redact(chunk.decode(errors="replace"))
        if not hidden:
            on_output(text)
            continue
        whole, end, line = (line + text).rpartition("\n")
        if end:
            on_output(secret_search.masked(whole + end, hidden))
    if line:
        on_output(secret_search.masked(line, hidden))
    return int(api.wait(container)["StatusCode"])


def _mounts(api: APIClient, access: StepAccess, facts: Facts) -> list[dict[str, Any]]:
    mounts = [VolumeMount(path, volume) for path, volume in access.volumes]
    require_volumes(api, mounts, facts)
    return [launch.mount(mount) for mount in mounts]
