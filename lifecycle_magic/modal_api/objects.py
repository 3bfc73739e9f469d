"""Members of Modal's objects: apps, handles, calls, volumes, secrets, queues and dictionaries."""

from __future__ import annotations

from lifecycle_magic.modal_api.entries import Section, ignored, refused, renamed, runs

__all__ = ["SECTIONS"]

_PS = "lifecycle-magic ps"
_PANEL = "lm.panel() shows it"
_COMMAND = "declare a class, and run the command with subprocess in a method"
_IDS = "there are no ids here: use the name"
_LOGS = "lifecycle-magic logs NAME"
_ONE_USER = "sessions of this user on this machine are found. Fix: remove it"
_NO_TIMES = "no time of creation is kept. Fix: remove it"
_INSIDE = "remove it: it is a part of Modal's own machinery"

EVERYWHERE = Section(
    "Everywhere",
    (
        *ignored(
            "*",
            {
                "environment_name=": "there is one environment: this user on this machine",
                "client=": "no client is needed: classes run on your own engine",
                "_heartbeat_sleep=": "an object without a name lives as long as its session",
                "namespace=": "there is one namespace: this user on this machine",
            },
        ),
    ),
)

APP = Section(
    "`App`",
    (
        *runs("App", "cls function local_entrypoint lookup include image name description"),
        *runs("App", "get_tags set_tags app_id"),
        *runs("App", "server", "`compute_region`, `routing_region` and the like do nothing"),
        *runs("App", "registered_functions registered_classes registered_web_endpoints"),
        *runs("App", "registered_entrypoints stop"),
        *runs("App", "run", "`with app.run():` and `async with app.run():`"),
        *ignored("App.run", {"show_progress=": "progress of builds is always shown"}),
        *refused(
            "App.run",
            {
                "detach=": "containers end with this process. Fix: remove it, or keep the process "
                "running: lifecycle-magic deploy script.py",
                "name=": "the app has one name. Fix: write App(name)",
                "interactive=": "it is for Modal's cloud. Fix: write breakpoint() in a method, and "
                "call it with .remote()",
            },
        ),
        *runs("App.include", "inherit_tags="),
        *ignored(
            "App.server",
            {
                "compute_region= routing_regions=": "containers run on your own machine",
                "exit_grace_period=": "set exit_grace=",
                "h2_enabled=": "the server is reached over HTTP/1.1",
                "scaleup_window=": "containers start when requests wait",
                "unauthenticated=": "the address is one of this machine",
            },
        ),
        *renamed(
            "Stub",
            {
                "asgi": "@app.function() above @asgi_app()",
                "webhook": "@app.function() above @fastapi_endpoint()",
                "wsgi": "@app.function() above @wsgi_app()",
            },
        ),
        *refused(
            "Stub",
            {
                "app": "use the App itself",
                "get_objects": "use registered_functions and registered_classes",
            },
        ),
        *renamed("App", {"_experimental_server": "@app.server(port=...)"}),
        *refused(
            "App",
            {
                "app": "use the App itself",
                "asgi": "write @app.function() above @asgi_app()",
                "deploy": "keep it running with: lifecycle-magic deploy script.py",
                "get_dashboard_url": _PANEL,
                "info": _PS,
                "is_inside": "write with image.imports(): around the imports",
                "indexed_objects": "use registered_functions and registered_classes",
                "is_interactive": "remove it: a method asks where its call is waited for",
                "interactive_shell": "write breakpoint() in a method, and call it with .remote()",
                "list_objects": "use registered_functions and registered_classes",
                "logs": _LOGS,
                "sandboxes spawn_sandbox": _COMMAND,
                "set_description": "give the app a name: App(name)",
                "stats": _PS,
                "webhook": "write @app.function() above @fastapi_endpoint()",
                "wsgi": "write @app.function() above @wsgi_app()",
            },
        ),
    ),
)

HANDLES = Section(
    "Classes, functions and calls",
    (
        *runs("Cls", "from_name", "classes that another session of this user serves"),
        *runs("Cls", "with_options with_concurrency with_batching hydrate"),
        *runs("Cls.with_batching", "max_batch_size= wait_ms="),
        *runs("Cls.with_concurrency", "max_inputs= target_inputs="),
        *ignored(
            "Cls.from_name", {"create_if_missing=": "a class exists while a session serves it"}
        ),
        *ignored(
            "Function.from_name",
            {"create_if_missing=": "a function exists while a session serves it"},
        ),
        *refused("Cls.from_name", {"version=": "the newest declaration runs. Fix: remove it"}),
        *refused("Cls.from_name", {"workspace=": _ONE_USER}),
        *refused("Function.from_name", {"workspace=": _ONE_USER}),
        *refused(
            "Cls",
            {
                "from_local validate_construction_mechanism": _INSIDE,
                "get_dashboard_url": _PANEL,
                "object_id": _IDS,
            },
        ),
        *renamed(
            "Cls",
            {"lookup": "Cls.from_name(app, name)", "remote": "Model(...), without .remote"},
        ),
        *refused(
            "Server",
            {
                "from_id object_id": _IDS,
                "logs": _LOGS,
                "metrics info stats sessions": _PS,
                "autoscaler": "write .update_autoscaler(...) of an instance of the class",
            },
        ),
        *runs("Obj", "update_autoscaler"),
        *refused("Obj", {"aenter enter entered get_local_obj get_obj": _INSIDE}),
        *renamed("Obj", {"keep_warm": ".update_autoscaler(min_containers=...)"}),
        *runs("Function", "from_name remote remote_gen local map starmap for_each spawn spawn_map"),
        *runs("Function", "with_options with_concurrency with_batching update_autoscaler hydrate"),
        *runs("Function", "get_web_url web_url get_raw_f is_generator get_current_stats"),
        *refused("Function.from_name", {"version=": "the newest declaration runs. Fix: remove it"}),
        *runs("Function.map", "kwargs= order_outputs= return_exceptions="),
        *runs("Function.starmap", "kwargs= order_outputs= return_exceptions="),
        *ignored(
            "Function.map",
            {"wrap_returned_exceptions=": "exceptions are returned as they were raised"},
        ),
        *ignored(
            "Function.starmap",
            {"wrap_returned_exceptions=": "exceptions are returned as they were raised"},
        ),
        *renamed(
            "Function",
            {
                "call": ".remote(...)",
                "keep_warm": ".update_autoscaler(min_containers=...)",
                "lookup": "Function.from_name(app, name)",
                "submit": ".spawn(...)",
            },
        ),
        *refused(
            "Function",
            {
                "app": "use the App itself",
                "autoscaler": "write .update_autoscaler(min_containers=..., max_containers=...)",
                "experimental_spawn_map": "write .spawn_map(...)",
                "from_id object_id": "there are no ids here: use Function.from_name(app, name)",
                "get_dashboard_url": _PANEL,
                "info metrics stats": _PS,
                "logs": _LOGS,
                "shell": "lifecycle-magic shell script.py::function",
                "stub": "use the App itself",
                "web_endpoint": "use get_web_url()",
                "cluster_size env from_args from_local from_parametrized get_build_def spec tag": (
                    _INSIDE
                ),
            },
        ),
        *runs("FunctionCall", "get cancel gather from_id object_id hydrate"),
        *runs("FunctionCall", "iter num_inputs", "a call has one input"),
        *runs("FunctionCall.get", "index=", "0, as a call has one input"),
        *ignored(
            "FunctionCall.cancel",
            {
                "terminate_containers=": "the container stays warm; lifecycle-magic stops one that "
                "does not answer"
            },
        ),
        *refused(
            "FunctionCall",
            {
                "get_call_graph": _PS,
                "get_gen": "call .remote_gen(...), and iterate",
                "get_dashboard_url": _PANEL,
                "logs": _LOGS,
            },
        ),
    ),
)

VOLUMES = Section(
    "`Volume`",
    (
        *runs("Volume", "from_name", "a volume of this machine, made on first use"),
        *runs("Volume.from_name", "create_if_missing="),
        *ignored("Volume.from_name", {"version= create_options=": "there is one kind of volume"}),
        *runs("Volume", "ephemeral", "an empty folder of each container; shared in a `with` block"),
        *ignored("Volume.ephemeral", {"version= create_options=": "there is one kind of volume"}),
        *runs("Volume", "commit reload", "nothing to do: writes are visible at once"),
        *runs(
            "Volume",
            "listdir iterdir read_file read_file_into_fileobj remove_file copy_files batch_upload "
            "rename delete objects",
            "in the notebook; in a container refused: use the mounted files",
        ),
        *refused("Volume.objects.list", {"created_before=": _NO_TIMES}),
        *ignored(
            "Volume.objects.create",
            {"version= experimental_options=": "there is one kind of volume"},
        ),
        *runs("Volume", "name hydrate"),
        *runs("Volume", "read_only with_mount_options", "containers can't write to it"),
        *runs("Volume.with_mount_options", "read_only="),
        *refused(
            "Volume.with_mount_options",
            {"sub_path=": "a volume is mounted as a whole. Fix: use the folder below its path"},
        ),
        *ignored(
            "Volume.read_file_into_fileobj",
            {"progress_cb=": "a file of this machine is read at once"},
        ),
        *refused(
            "Volume",
            {
                "add_local_dir add_local_file put write_file": "write with "
                "volume.batch_upload() as batch: ...",
                "create_deployed": "write Volume.objects.create(name)",
                "persist": "write Volume.from_name(name, create_if_missing=True)",
                "from_id object_id": "there are no ids here: use Volume.from_name(name)",
                "new": "write Volume.from_name(name, create_if_missing=True)",
                "get_dashboard_url info": "lifecycle-magic ps --images lists volumes",
            },
        ),
        *renamed("Volume", {"lookup persisted": "Volume.from_name(name, create_if_missing=True)"}),
    ),
)

FILE_SYSTEMS = Section(
    "`NetworkFileSystem` and `Mount`",
    (
        *runs("NetworkFileSystem", "from_name persisted lookup ephemeral", "a `Volume`"),
        *refused(
            "NetworkFileSystem",
            {
                "add_local_dir add_local_file write_file": "write with volume.batch_upload() as "
                "batch: ...",
                "create_deployed": "write Volume.objects.create(name)",
                "copy_files listdir iterdir read_file remove_file delete": "they are methods of "
                "what from_name(name) returns",
                "new persist": "write Volume.from_name(name, create_if_missing=True)",
            },
        ),
        *runs("Mount", "from_local_dir from_local_file from_local_python_packages"),
        *runs("Mount", "add_local_dir add_local_file"),
        *refused(
            "Mount",
            {
                "entries is_local": "use Image.add_local_dir(...)",
                "from_name lookup": "use Image.add_local_python_source(...)",
                "new": "use Mount.from_local_dir(...)",
            },
        ),
    ),
)

SECRETS = Section(
    "`Secret`",
    (
        *runs("Secret", "from_dict from_dotenv from_local_environ hydrate name"),
        *runs(
            "Secret",
            "from_name",
            "what `lifecycle-magic secret create NAME KEY=VALUE` stored on this machine; else the "
            "required keys of the environment",
        ),
        *runs("Secret.from_name", "required_keys="),
        *runs("Secret.objects.list", "max_objects="),
        *refused("Secret.objects.list", {"created_before=": _NO_TIMES}),
        *runs("Secret", "objects", "`list`, `create` and `delete`, with their `.aio` forms"),
        *refused(
            "Secret",
            {
                "create_deployed": "write Secret.objects.create(name, values)",
                "get_dashboard_url info": "lifecycle-magic secret list",
                "object_id": "there are no ids here: use Secret.from_name(name)",
                "update": "lifecycle-magic secret create NAME KEY=VALUE --force",
            },
        ),
        *renamed("Secret", {"lookup": "Secret.from_name(name)"}),
    ),
)

SHARED = Section(
    "`Queue` and `Dict`",
    (
        *runs("Queue", "from_name ephemeral", "kept by the notebook's session, until it ends"),
        *runs("Queue", "put put_many get get_many len clear iterate delete name hydrate"),
        *runs("Queue", "objects", "`list`, `create` and `delete`, in this session"),
        *runs("Queue.objects.list", "max_objects="),
        *refused("Queue.objects.list", {"created_before=": _NO_TIMES}),
        *runs("Queue.from_name", "create_if_missing="),
        *runs("Dict", "from_name ephemeral", "kept by the notebook's session, until it ends"),
        *runs("Dict", "get put pop update contains len clear keys values items delete name"),
        *runs("Dict", "hydrate"),
        *runs("Dict", "objects", "`list`, `create` and `delete`, in this session"),
        *runs("Dict.objects.list", "max_objects="),
        *refused("Dict.objects.list", {"created_before=": _NO_TIMES}),
        *runs("Dict.from_name", "create_if_missing="),
        *(
            entry
            for kind in ("Queue", "Dict")
            for entry in refused(
                kind,
                {
                    "from_id object_id": f"there are no ids here: use {kind}.from_name(name)",
                    "get_dashboard_url info": "len() says how many items there are",
                },
            )
        ),
        *(
            entry
            for kind in ("Queue", "Dict")
            for entry in renamed(
                kind,
                {
                    "lookup": f"{kind}.from_name(name, create_if_missing=True)",
                    "new": f"{kind}.ephemeral()",
                    "persisted": f"{kind}.from_name(name, create_if_missing=True)",
                },
            )
        ),
        *refused("Queue", {"validate_partition_key": "put() and get() check it"}),
    ),
)

SECTIONS = (EVERYWHERE, APP, HANDLES, VOLUMES, FILE_SYSTEMS, SECRETS, SHARED)
