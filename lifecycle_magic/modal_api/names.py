"""Names in ``modal`` itself and in its modules."""

from __future__ import annotations

from lifecycle_magic.modal_api.entries import Section, ignored, refused, renamed, runs

__all__ = ["INSTEAD_OF_MODULE", "SECTIONS"]

_SCHEDULER = (
    "remove schedule=, and run the script from your scheduler (cron, systemd): "
    "lifecycle-magic run script.py"
)
_ITSELF = "remove it: each container runs by itself, on this machine"
_COMMAND = "declare a class, and run the command with subprocess in a method"
_FORWARD = "use @web_server(port) and get_web_url()"
_TOGETHER = "set @concurrent(max_inputs=...) above the class"

NAMES = Section(
    "Names in `modal`",
    (
        *runs("modal", "App Cls Dict Error FilePatternMatcher Function FunctionCall Image Queue"),
        *runs("modal", "Retries Secret Volume exception"),
        *runs("modal", "current_input_id current_function_call_id"),
        *runs(
            "modal",
            "enable_output",
            "what methods print is always shown; with it, also builds, starts and exits",
        ),
        *runs("modal", "Server", "`Server.from_name(app, name)`"),
        *runs("modal", "interact", "breakpoint() and input() ask without it"),
        *renamed(
            "modal",
            {
                "Conda": "Image.micromamba()",
                "DebianSlim": "Image.debian_slim()",
                "DockerfileImage": "Image.from_dockerfile(path)",
                "DockerhubImage": "Image.from_registry(tag)",
                "Mount": "image.add_local_dir(...), add_local_file(...) or "
                "add_local_python_source(...)",
                "NetworkFileSystem": "Volume.from_name(name), which the names stand for here",
                "SharedVolume": "Volume.from_name(name)",
                "Stub": "App",
            },
        ),
        *refused(
            "modal",
            {
                "Client": "no client is needed: classes run on your own engine",
                "Cluster": _ITSELF,
                "CloudBucketMount": "mount the bucket on this machine, and use "
                "Volume.from_path(folder)",
                "container_app": "use the App itself: its objects are those of the program",
                "lookup": "Function.from_name(app, name), or Cls.from_name(app, name)",
                "ref": "Secret.from_name(name), or Volume.from_name(name)",
                "create_package_mounts": "image.add_local_python_source(...)",
                "Cron Period": _SCHEDULER,
                "Environment": "there is one environment: this user on this machine",
                "Probe": "declare a class: it is ready when its enter hooks have returned",
                "Proxy": "set HTTPS_PROXY with env={...}",
                "Sandbox": _COMMAND,
                "SandboxSnapshot": "declare a class with a build hook, which keeps what it makes "
                "in the image",
                "SchedulerPlacement": "remove it: containers run on your own machine",
                "Tunnel forward": _FORWARD,
                "Workspace": "remove it: there is no account",
            },
        ),
    ),
)

MODULES = Section(
    "Modal's modules",
    (
        *runs("modal.experimental", "http_server"),
        *ignored(
            "http_server",
            {
                "proxy_regions=": "containers run on your own machine",
                "exit_grace_period=": "set exit_grace= in @app.cls()",
            },
        ),
        *refused(
            "http_server",
            {"h2_enabled=": "the server is reached over HTTP/1.1. Fix: remove it"},
        ),
        *refused(
            "modal.experimental",
            {
                "clustered get_cluster_info": _ITSELF,
                "flash_forward server_forward": _FORWARD,
                "stop_fetching_inputs": "set single_use_containers=True in @app.cls()",
                "set_local_input_concurrency get_local_input_concurrency": _TOGETHER,
                "list_deployed_apps get_app_objects get_app_lifecycle": "lifecycle-magic app list",
                "stop_app": "lifecycle-magic app stop NAME",
                "image_delete": "lifecycle-magic prune",
                "raw_dockerfile_image": "use Image.from_dockerfile(path)",
                "raw_registry_image": "use Image.from_registry(tag)",
                "notebook_base_image": "use Image.debian_slim()",
                "Stream": "use a Queue: Queue.from_name(name, create_if_missing=True)",
            },
        ),
        *runs("modal.gpu", "A10 A10G A100 Any B200 H100 H200 L4 L40S T4", "strings for `gpu=`"),
        *runs("modal.cls", "Cls parameter"),
        *runs("modal.dict", "Dict"),
        *runs("modal.file_pattern_matcher", "FilePatternMatcher"),
        *runs("modal.functions", "Function FunctionCall gather"),
        *runs("modal.image", "Image"),
        *renamed("modal.mount", {"Mount": "image.add_local_dir(...)"}),
        *renamed("modal.network_file_system", {"NetworkFileSystem": "Volume.from_name(name)"}),
        *runs("modal.output", "enable_output"),
        *runs(
            "modal.partial_function",
            "asgi_app batched build concurrent enter exit fastapi_endpoint method web_endpoint "
            "web_server wsgi_app",
        ),
        *runs("modal.queue", "Queue"),
        *runs("modal.retries", "Retries"),
        *runs("modal.app", "App"),
        *runs("modal.secret", "Secret"),
        *runs("modal.types", "FileEntry FileEntryType"),
        *runs("modal.volume", "Volume FileEntry FileEntryType"),
        *refused(
            "modal.sandbox",
            {"Sandbox": _COMMAND},
        ),
        *refused("modal.schedule", {"Cron Period": _SCHEDULER}),
    ),
)

INSTEAD_OF_MODULE = {
    "billing": "remove it: nothing is billed",
    "call_graph": "lifecycle-magic ps lists what runs",
    "client": "no client is needed: classes run on your own engine",
    "cloud_bucket_mount": "mount the bucket on this machine, and use Volume.from_path(folder)",
    "cls": "call the class itself: Model(...)",
    "cluster": _ITSELF,
    "config": "set options in the program, or by LIFECYCLE_MAGIC_... variables",
    "container_process": _COMMAND,
    "environments": "there is one environment: this user on this machine",
    "io_streams": "run the command with subprocess in a method, and read its pipes",
    "object": "use the class itself: App, Image, Volume, ...",
    "partial_function": "write the decorator itself: method, enter, exit, ...",
    "parallel_map": "call .map, .starmap or .for_each of a method",
    "proxy": "set HTTPS_PROXY with env={...}",
    "runner": "write with app.run(): ..., or lifecycle-magic run script.py",
    "running_app": "write with app.run(): ...",
    "sandbox": _COMMAND,
    "schedule": _SCHEDULER,
    "scheduler_placement": "remove it: containers run on your own machine",
    "server": "declare a class with @app.cls(), and a method with @web_server(port)",
    "serving": "lifecycle-magic serve script.py",
    "snapshot": "declare a class with a build hook, which keeps what it makes in the image",
    "stream_type": "run the command with subprocess in a method, and read its pipes",
    "token_flow": "remove it: there is no account",
    "types": "use the values themselves",
    "workspace": "remove it: there is no account",
}
"""Modules of Modal's that have nothing here, and what to write instead of any of their names."""

OF_MODULE = {
    "billing": "BillingReportItem WorkspaceBillingReportItem workspace_billing_report",
    "client": "Client",
    "cloud_bucket_mount": "CloudBucketMount",
    "cls": "Obj",
    "cluster": "Cluster",
    "config": "Config config config_profiles config_set_active_profile logger user_config_path",
    "container_process": "ContainerProcess",
    "environments": "Environment create_environment delete_environment list_environments "
    "update_environment",
    "io_streams": "StreamReader StreamWriter",
    "object": "Object",
    "partial_function": "PartialFunction",
    "proxy": "Proxy",
    "runner": "DeployResult deploy_app interactive_shell run_app serve_update",
    "running_app": "RunningApp",
    "sandbox": "Probe SandboxSnapshot SidecarContainer",
    "schedule": "Schedule",
    "scheduler_placement": "SchedulerPlacement",
    "serving": "serve_app",
    "stream_type": "StreamType",
    "token_flow": "TokenFlow",
    "types": "AppInfo AppStats DictInfo FunctionAutoscalerSettings FunctionCurrentStats "
    "FunctionInfo FunctionStats InputInfo InputStatus LogEntry LogSource QueueInfo SandboxStats "
    "SecretInfo ServerInfo ServerStats VolumeInfo",
    "workspace": "Workspace",
}
"""Names of Modal's modules that exist only to be imported and named in annotations: any use is
refused as `INSTEAD_OF_MODULE` says."""

SECTIONS = (NAMES, MODULES)
