"""Options of Modal's classes and functions, and of the decorators of their methods."""

from __future__ import annotations

from lifecycle_magic.modal_api.entries import Section, ignored, refused, renamed, runs

__all__ = ["SECTIONS"]

_OWN_MACHINE = "containers run on your own machine"
_WAITS = "False: requests wait for the answer. Fix: remove it, and .spawn() what takes long"
_DOMAINS = "an endpoint answers on this machine. Fix: remove it, and put a proxy in front of it"

OPTIONS = Section(
    "Options of classes and functions",
    (
        *runs(
            "options",
            "name= image= env= secrets= volumes= cpu= memory= timeout= startup_timeout= retries= "
            "min_containers= max_containers= buffer_containers= scaledown_window= "
            "single_use_containers= block_network=",
        ),
        *runs("options", "gpu=", "a list names alternatives; `modal.gpu` makes such strings"),
        *ignored(
            "options",
            {
                "cloud= region= routing_region= i6pn= scheduler_placement=": _OWN_MACHINE,
                "_allow_background_volume_commits= allow_background_volume_commits=": "writes are "
                "visible at once",
                "enable_memory_snapshot= checkpointing_enabled=": "containers are kept warm, and "
                "spares have run enter before",
                "ephemeral_disk=": "a container may use the disk of its engine",
                "experimental_options= _experimental_restrict_output= _experimental_boost= "
                "_experimental_buffer_containers= _experimental_custom_scaling_factor= "
                "_experimental_enable_gpu_snapshot= _experimental_proxy_ip= "
                "_experimental_scheduler= _experimental_scheduler_placement=": "they are for "
                "Modal's cloud",
                "allow_cross_region_volumes=": _OWN_MACHINE,
                "interactive=": "a method asks where its call is waited for",
                "include_source= serialized=": "the code that a class needs always travels with it",
                "nonpreemptible=": "nothing preempts containers here",
                "restrict_modal_access=": "containers reach the classes of your own session only",
            },
        ),
        *renamed(
            "options",
            {
                "keep_warm=": "min_containers=...",
                "concurrency_limit=": "max_containers=...",
                "container_idle_timeout=": "scaledown_window=...",
                "max_inputs=": "single_use_containers=True, or @concurrent(max_inputs=...) above "
                "the class",
                "mounts=": "image=image.add_local_dir(...), or add_local_file(...)",
                "secret=": "secrets=[...]",
                "network_file_systems= shared_volumes=": "volumes={path: volume}",
                "allow_concurrent_inputs=": "@concurrent(max_inputs=...) above the class",
            },
        ),
        *refused(
            "options",
            {
                "mount=": "has a new name: use image=Image.add_local_dir(...)",
                "volume=": "has a new name: use volumes={path: volume}",
                "batch_max_size=": "is no option of the container: use "
                "@batched(max_batch_size=..., wait_ms=...) on the method",
                "is_generator=": "is no option of the container: use @method(is_generator=...) on "
                "the method, or @app.function(is_generator=...)",
                "proxy=": "needs Modal's cloud: set HTTPS_PROXY with env={...} instead",
                "schedule=": "needs a service that always runs. Fix: remove it, and run the script "
                "from your scheduler (cron, systemd): lifecycle-magic run script.py",
            },
        ),
    ),
)

DECORATORS = Section(
    "Decorators of methods",
    (
        *runs("modal", "enter exit method batched concurrent parameter is_local"),
        *runs("modal", "build", "it runs once, and what it writes is part of the image"),
        *renamed("enter", {"checkpoint=": "snap=..."}),
        *runs("enter", "snap=", "`snap=True` hooks run before the other `enter` hooks"),
        *runs("method", "is_generator="),
        *runs("batched", "max_batch_size= wait_ms="),
        *runs("concurrent", "max_inputs= target_inputs=", "`target_inputs` alone is both"),
        *runs("parameter", "default= init="),
        *runs("build", "force= timeout="),
        *runs("modal", "fastapi_endpoint asgi_app wsgi_app web_server web_endpoint"),
        *runs("fastapi_endpoint", "method= label= docs="),
        *runs("asgi_app", "label="),
        *runs("wsgi_app", "label="),
        *runs("web_server", "port= startup_timeout= label="),
        *(
            entry
            for decorator in ("fastapi_endpoint", "asgi_app", "wsgi_app", "web_server")
            for entry in (
                *runs(decorator, "requires_proxy_auth=", "asks for a bearer token"),
                *refused(decorator, {"custom_domains=": _DOMAINS}),
                *refused(decorator, {"wait_for_response=": _WAITS}),
            )
        ),
        *refused(
            "modal",
            {
                "clustered": "remove it: each container runs by itself, on this machine",
                "sessioned": "keep what belongs to a client on self, by a key that the client "
                "sends",
            },
        ),
    ),
)

SECTIONS = (OPTIONS, DECORATORS)
