"""Steps of Modal's images under names that they had before, and what other steps replace."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from lifecycle_magic.checks import matches
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.local_files import Ignore
from lifecycle_magic.modal_api.table import old_spelling
from lifecycle_magic.secret import Secret

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image

__all__ = ["OldSteps"]

_USER = re.compile(r"[\w-]+", re.ASCII)
_REPOSITORY = re.compile(r"[\w./@-]+", re.ASCII)
_TOKENS = {"github.com": "GITHUB_TOKEN", "gitlab.com": "GITLAB_TOKEN"}
"""The variable of a secret that has the password for each host."""


class OldSteps:
    """Former methods of `Image`: each warns once and calls the current one."""

    @classmethod
    def from_dockerhub(cls: Any, tag: str, **options: Any) -> Image:
        """Do what `from_registry` does."""
        old_spelling("Image", "from_dockerhub")
        image: Image = cls.from_registry(tag, **options)
        return image

    @classmethod
    def conda(cls: Any, python_version: str | None = None, force_build: bool = False) -> Image:
        """Do what `micromamba` does."""
        old_spelling("Image", "conda")
        image: Image = cls.micromamba(python_version, force_build)
        return image

    def run_inside(self: Any) -> AbstractContextManager[None]:
        """Do what `imports` does."""
        old_spelling("Image", "run_inside")
        block: AbstractContextManager[None] = self.imports()
        return block

    def conda_install(self: Any, *packages: str | list[str], **options: Any) -> Image:
        """Do what `micromamba_install` does."""
        old_spelling("Image", "conda_install")
        image: Image = self.micromamba_install(*packages, **options)
        return image

    def conda_update_from_environment(
        self: Any, environment_yml: str | os.PathLike[str], **options: Any
    ) -> Image:
        """Do what `micromamba_install` does with a file of packages."""
        old_spelling("Image", "conda_update_from_environment")
        image: Image = self.micromamba_install(spec_file=environment_yml, **options)
        return image

    def copy_local_file(
        self: Any, local_path: str | os.PathLike[str], remote_path: str = "./"
    ) -> Image:
        """Do what `add_local_file` does."""
        old_spelling("Image", "copy_local_file")
        image: Image = self.add_local_file(local_path, self._copied_to(remote_path))
        return image

    def copy_local_dir(
        self: Any,
        local_path: str | os.PathLike[str],
        remote_path: str = ".",
        ignore: Ignore = (),
    ) -> Image:
        """Do what `add_local_dir` does."""
        old_spelling("Image", "copy_local_dir")
        image: Image = self.add_local_dir(local_path, self._copied_to(remote_path), ignore=ignore)
        return image

    def copy_mount(self: Any, mount: Any, remote_path: str = ".") -> Image:
        """Add what a `Mount` has, by the paths that it has."""
        from lifecycle_magic.images.mount import Mount

        if not isinstance(mount, Mount):
            raise InvalidError(f"Image.copy_mount takes a Mount, not {mount!r:.60}")
        if remote_path not in (".", "./", "/"):
            raise InvalidError(
                f"Image.copy_mount(remote_path={remote_path!r}): a mount has the paths that it was "
                "made with. Fix: give it its remote_path, or use add_local_dir(...)"
            )
        old_spelling("Image", "copy_mount")
        image: Image = mount.added_to(self)
        return image

    def _copied_to(self: Any, remote_path: str) -> str:
        """Return a target that may be relative: to the working folder, which is ``/root`` there."""
        if remote_path.startswith("/") or self.known_workdir():
            return remote_path
        inner = remote_path.removeprefix("./")
        return f"/root/{'' if inner == '.' else inner}"

    def with_old_options(self: Any, given: dict[str, Any]) -> tuple[Image, dict[str, Any]]:
        """Return the image and the options of `run_function`, with former ones under new names."""
        image: Image = self
        options = dict(given)
        for name in ("secret", "mounts", "network_file_systems", "shared_volumes"):
            value = options.pop(name, None)
            if not value:
                continue
            old_spelling("Image.run_function", f"{name}=")
            if name == "secret":
                options["secrets"] = [*options.get("secrets", ()), value]
            elif name == "mounts":
                for mount in value:
                    image = mount.added_to(image)
            else:
                options["volumes"] = {**options.get("volumes", {}), **value}
        return image, options

    def pip_install_private_repos(
        self: Any,
        *repositories: str,
        git_user: str,
        secrets: Sequence[Secret] = (),
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: dict[str, str] | None = None,
        gpu: Any = None,
    ) -> Image:
        """Install packages from private repositories: ``"github.com/owner/name@main"``.

        The secrets have ``GITHUB_TOKEN`` for github.com and ``GITLAB_TOKEN`` for gitlab.com. git
        is installed too. No layer and no log has a token.
        """
        call = "Image.pip_install_private_repos"
        if not repositories or not secrets or not matches(_USER, git_user):
            raise InvalidError(
                f"{call} takes repositories, git_user= and secrets=. Fix: write "
                '"github.com/owner/name@main", git_user="me", secrets=[secret]'
            )
        words = ["python3", "-m", "pip", "install", "--no-cache-dir"]
        places = (
            ("--find-links", find_links),
            ("--index-url", index_url),
            ("--extra-index-url", extra_index_url),
        )
        words += [f"{option}={value}" for option, value in places if value]
        words += ["--pre"] if pre else []
        command = shlex.join([*words, *shlex.split(extra_options)])
        for repository in repositories:
            host = str(repository).partition("/")[0]
            if host not in _TOKENS or not matches(_REPOSITORY, repository):
                raise InvalidError(
                    f"{call}: {repository!r} is no repository of {' or '.join(_TOKENS)}, such as "
                    "'github.com/owner/name@main'. Fix: for another host write "
                    ".run_commands('pip install git+https://$USER:$TOKEN@...', secrets=[...])"
                )
            command += f' "git+https://{git_user}:${_TOKENS[host]}@{repository}"'
        image: Image = self.apt_install("git").run_commands(
            command, env=env, secrets=secrets, force_build=force_build, gpu=gpu
        )
        return image
