"""Modal's images: their steps, and the options of these."""

from __future__ import annotations

from lifecycle_magic.modal_api.entries import Section, ignored, refused, renamed, runs

__all__ = ["SECTIONS"]

_GPU = "steps run without a GPU. Use a @build hook, with gpu= on the class, for what needs one"
_LOGIN = (
    "the engine pulls with its own credentials. Fix: run docker login for that registry on this "
    "machine, and use Image.from_registry(...)"
)
_PULLS = "the engine pulls with its own credentials. Fix: run docker login on this machine"
_SHOWN = (
    "the engine would show them. Fix: use them in a step after it, as in "
    ".run_commands(..., secrets=[...])"
)
_ENV = (
    "set it with .env({...}) before the step, or for a command alone with "
    ".run_commands('...', env={...})"
)
_PIP = "find_links= index_url= extra_index_url= pre= extra_options= env= secrets= force_build="

IMAGES = Section(
    "`Image`",
    (
        *runs("Image", "debian_slim from_registry from_dockerfile"),
        *runs("Image", "pip_install uv_pip_install pip_install_from_requirements"),
        *runs("Image", "pip_install_from_pyproject poetry_install_from_file uv_sync"),
        *runs("Image", "apt_install run_commands dockerfile_commands run_function env workdir"),
        *runs("Image", "micromamba micromamba_install pipe build imports hydrate shell"),
        *runs("Image", "pip_install_private_repos", "for github.com and gitlab.com"),
        *runs("Image", "add_local_file add_local_dir add_local_python_source"),
        *runs("Image", "entrypoint cmd", "the empty list; a container runs the class"),
        *runs("Image.debian_slim", "python_version= force_build="),
        *runs("Image.from_registry", "add_python= setup_dockerfile_commands= force_build="),
        *runs("Image.from_dockerfile", "context_dir= build_args= ignore= add_python="),
        *runs("Image.from_dockerfile", "force_build="),
        *runs("Image.pip_install", _PIP),
        *runs("Image.uv_pip_install", f"requirements= {_PIP}"),
        *runs("Image.pip_install_from_requirements", _PIP),
        *runs("Image.pip_install_from_pyproject", f"optional_dependencies= {_PIP}"),
        *runs("Image.uv_sync", "uv_project_dir= groups= extras= frozen= extra_options= env="),
        *runs("Image.uv_sync", "secrets= force_build="),
        *runs("Image.apt_install", "env= secrets= force_build="),
        *runs("Image.run_commands", "env= secrets= volumes= force_build="),
        *runs("Image.run_function", "args= kwargs= secrets= volumes= env= cpu= memory= gpu="),
        *runs("Image.run_function", "timeout= force_build="),
        *runs("Image.dockerfile_commands", "context_files= context_dir= ignore= env= secrets="),
        *runs("Image.dockerfile_commands", "force_build="),
        *runs("Image.micromamba_install", "spec_file= channels= env= secrets= force_build="),
        *runs("Image.poetry_install_from_file", "poetry_lockfile= ignore_lockfile= with_="),
        *runs("Image.poetry_install_from_file", "without= only= poetry_version= old_installer="),
        *runs("Image.poetry_install_from_file", "env= secrets= force_build="),
        *runs("Image.add_local_dir", "copy= ignore="),
        *runs("Image.add_local_file", "copy="),
        *(
            entry
            for step in (
                *("pip_install", "uv_pip_install", "pip_install_from_requirements"),
                *("pip_install_from_pyproject", "poetry_install_from_file", "uv_sync"),
                *("apt_install", "run_commands", "dockerfile_commands", "micromamba_install"),
            )
            for entry in ignored(f"Image.{step}", {"gpu=": _GPU})
        ),
        *ignored(
            "Image.uv_pip_install",
            {"uv_version=": "the uv of this machine installs the packages"},
        ),
        *ignored("Image.uv_sync", {"uv_version=": "the uv of this machine installs the packages"}),
        *ignored(
            "Image.add_local_python_source",
            {
                "copy=": "modules travel when a container starts, and later steps of the image do "
                "not see them",
                "ignore=": "a package travels as a whole",
            },
        ),
        *ignored(
            "Image.run_function",
            {
                "include_source=": "the code that a function needs always travels with it",
                "cloud= region=": "steps run on your own engine",
            },
        ),
        *renamed(
            "Image.run_function",
            {
                "network_file_systems= shared_volumes=": "volumes={path: volume}",
                "mounts=": ".add_local_dir(...) or .add_local_file(...) before the step",
                "secret=": "secrets=[...]",
            },
        ),
        *refused(
            "Image.dockerfile_commands",
            {"build_args=": "write the values into the instructions"},
        ),
        *refused(
            "Image.from_registry",
            {"secret=": _PULLS},
        ),
        *refused(
            "Image.from_dockerfile",
            {
                "registry_secret=": _PULLS,
                "secrets=": _SHOWN,
                "env=": "use build_args={...} with ARG in the Dockerfile",
                "gpu=": _GPU,
                "context_mount=": "use context_dir=...",
            },
        ),
        *refused(
            "Image.*",
            {
                "secrets=": _SHOWN,
                "secret=": _PULLS,
                "env=": _ENV,
                "volumes=": "Fix: use .run_commands(..., volumes={...}) or "
                ".run_function(..., volumes={...})",
                "include_source=": "modules next to the notebook that a function refers to travel "
                "with it. Fix: omit it",
                "network=": "a command uses the engine's own network. Fix: omit it",
            },
        ),
        *renamed(
            "Image",
            {
                "from_dockerhub": "Image.from_registry(tag)",
                "run_inside": "with image.imports():",
                "conda": "Image.micromamba()",
                "conda_install": ".micromamba_install(...)",
                "conda_update_from_environment": ".micromamba_install(spec_file=...)",
                "copy_local_file": ".add_local_file(...)",
                "copy_local_dir": ".add_local_dir(...)",
                "copy_mount": ".add_local_dir(...), or add_local_python_source(...)",
            },
        ),
        *refused(
            "Image",
            {
                "from_aws_ecr from_gcp_artifact_registry": _LOGIN,
                "from_id": "an id of Modal's names nothing here. Fix: use the recipe, or "
                "Image.from_registry('sha256:...') with an id of the engine's",
                "from_name": "use the recipe, or Image.from_registry(tag) with an image of the "
                "engine's",
                "extend": "write .dockerfile_commands(...)",
                "from_scratch": "a class needs an image with Python. Fix: use Image.debian_slim()",
                "from_gcr": _LOGIN,
                "publish": "push it with docker push, and use Image.from_registry(...)",
                "logs": "lifecycle-magic logs NAME --build",
                "get_dashboard_url": "lm.panel() shows builds",
                "object_id": "there are no ids here: use the recipe",
            },
        ),
    ),
)

SECTIONS = (IMAGES,)
