"""Files that a container makes in a folder of the host belong to the user of the notebook."""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from conftest import BASE_IMAGE
from kernel.harness import OwnKernel, own_kernel, wait_for
from kernel.users import User, some_user

pytestmark = [pytest.mark.kernel, pytest.mark.docker]


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with some_user() as one:
        yield one


@pytest.fixture(scope="module")
def home(user: User) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lm-h-") as folder:
        home = user.own(Path(folder))
        (home / "data").mkdir()
        user.own(home / "data")
        yield home


@pytest.fixture(scope="module")
def kernel(need_docker: docker.DockerClient, user: User, home: Path) -> Iterator[OwnKernel]:
    env = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "LIFECYCLE_MAGIC_STATE": str(home / "s"),
        "LIFECYCLE_MAGIC_ENGINE": "docker",
    }
    with own_kernel(home, env, user) as kernel:
        kernel.run("%load_ext lifecycle_magic")
        kernel.run(CLASS.format(data=home / "data"), timeout=120)
        yield kernel
        kernel.run("%unload_ext lifecycle_magic")


CLASS = """\
%%lifecycle_cls --volume {data}:/data
import os
import lifecycle_magic as lm

class Writer:
    @lm.build()
    def bake(self):
        os.makedirs(os.path.expanduser("~/.cache"), exist_ok=True)
        with open(os.path.expanduser("~/.cache/baked"), "w") as file:
            file.write(str(os.getuid()))

    @lm.enter()
    def enter(self):
        with open("/data/enter", "w") as file:
            file.write("one\\n")

    @lm.method()
    def evaluate(self, text):
        import pwd, subprocess, sys, tempfile
        return eval(text)

    @lm.method()
    def run(self, text):
        import subprocess
        exec(text)

    def install(self):
        import subprocess
        os.makedirs("/tmp/package")
        with open("/tmp/package/setup.py", "w") as file:
            file.write("from setuptools import setup; setup(name='mine')")
        pip = "python3 -m pip install --break-system-packages --no-index --no-build-isolation"
        return subprocess.getoutput(pip + " /tmp/package")

    @lm.exit()
    def leave(self):
        with open("/data/exit", "w") as file:
            file.write("one\\n")
"""


def ask(kernel: OwnKernel, text: str) -> object:
    """What the worker makes of an expression."""
    return ast.literal_eval(kernel.run(f"print(repr(Writer().evaluate.remote({text!r})))"))


def test_the_worker_has_the_ids_a_name_and_the_home_of_the_build(
    kernel: OwnKernel, user: User
) -> None:
    assert ask(kernel, "[*os.getresuid(), *os.getresgid()]") == [user.uid] * 3 + [user.gid] * 3
    assert ask(kernel, "pwd.getpwuid(os.getuid()).pw_dir == os.path.expanduser('~')")
    assert ask(kernel, "open(os.path.expanduser('~/.cache/baked')).read()") == "0"


def test_the_worker_and_its_children_write_wherever_root_can(kernel: OwnKernel) -> None:
    kernel.run('Writer().run.remote(\'open("/usr/lib/mine", "w").close()\')')
    shell = "touch /etc/mine && chown 0 /etc/mine && chmod 600 /etc/mine && echo done >/dev/stdout"
    assert ask(kernel, f"subprocess.getoutput({shell!r})") == "done"
    assert ask(kernel, "os.access('/usr/lib', os.W_OK)")  # pip asks this
    assert ask(kernel, "tempfile.NamedTemporaryFile().name.startswith('/tmp/')")
    assert ask(kernel, "len(os.listdir('/proc/self/fd')) > 3")
    told = str(ask(kernel, "self.install()"))
    assert "Successfully installed mine" in told
    assert "user installation" not in told


def test_what_hooks_methods_and_children_make_is_the_users(
    kernel: OwnKernel, user: User, home: Path
) -> None:
    kernel.run("Writer().run.remote('os.makedirs(\"/data/method\", exist_ok=True)')")
    kernel.run('Writer().run.remote(\'subprocess.run(["touch", "/data/child"], check=True)\')')
    kernel.run("%lifecycle stop Writer")
    wait_for((home / "data" / "exit").exists, "the file of exit")
    owners = {
        path.name: (path.stat().st_uid, path.stat().st_gid) for path in (home / "data").iterdir()
    }
    assert set(owners) == {"enter", "method", "child", "exit"}
    assert set(owners.values()) == {(user.uid, user.gid)}
    kernel.run(f"open('{home}/data/enter', 'a').write('two')")  # the kernel can append


def test_the_owner_wins_over_the_images_user_and_the_card_reports_it(
    kernel: OwnKernel, user: User, home: Path
) -> None:
    context = home / "image"  # the home folder has files that change between two looks
    context.mkdir()
    user.own(context)
    (context / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN useradd app\nUSER app\n")
    kernel.run("import lifecycle_magic as lm, os")
    told = kernel.run(
        "seen = []\n"
        "from lifecycle_magic.session import session\n"
        "from lifecycle_magic.lifecycle.states import Notice\n"
        "session.current().bus.subscribe(lambda one: seen.append(one.text), [Notice])\n"
        "app = lm.App()\n"
        f"@app.cls(image=lm.Image.from_dockerfile('{context}/Dockerfile'),\n"
        f"         volumes={{'/data': lm.Volume.from_path('{home}/data')}})\n"
        "class Both:\n"
        "    @lm.method()\n"
        "    def uid(self):\n"
        "        return os.getuid()\n"
        "print(Both().uid.remote(), [text for text in seen if 'USER app' in text])\n"
        "app.stop()",
        timeout=120,
    )
    assert told.startswith(f"{user.uid} [")
    assert f"methods run as this kernel's user ({user.uid}:{user.gid})" in told
