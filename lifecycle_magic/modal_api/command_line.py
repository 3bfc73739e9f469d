"""Modal's command line."""

from __future__ import annotations

from lifecycle_magic.modal_api.entries import Section, ignored, refused, runs

__all__ = ["SECTIONS"]

_ONE = "there is one environment, this user on this machine"
_ACCOUNT = "remove it: there is no account"
_SHARED = (
    "a session has it. Fix: write Queue.from_name(name, create_if_missing=True) in the script, or "
    "Dict.from_name"
)

COMMANDS = Section(
    "Command line",
    (
        *runs("lifecycle-magic", "run serve deploy shell"),
        *runs("run", "-m -q --quiet -w --write-result -"),
        *ignored(
            "run",
            {
                "-d --detach": "containers end with this command, or keep running under "
                "lifecycle-magic deploy",
                "-e --env --profile": _ONE,
                "-i --interactive": "a method that is waited for asks in the terminal without it",
                "-n --name": "the app has the name that the script gives it",
                "--timestamps": "lifecycle-magic history has the times",
            },
        ),
        *runs("serve", "-m --timeout"),
        *ignored(
            "serve",
            {
                "-e --env --profile": _ONE,
                "-n --name": "the app has the name that the script gives it",
                "--timestamps": "lifecycle-magic history has the times",
            },
        ),
        *runs("deploy", "-m --name"),
        *ignored(
            "deploy",
            {
                "-e --env --profile": _ONE,
                "--stream-logs": "deploy prints where the log is",
                "--timestamps": "lifecycle-magic history has the times",
                "--tag": "the newest declaration runs",
                "--strategy": "callers go on to the newer one with their next call",
            },
        ),
        *runs("shell", "-c --cmd -m --image --add-python --volume --secret --cpu --memory --gpu"),
        *runs("shell", "--pty"),
        *runs("app", "list logs stop"),
        *runs("app logs", "-n --tail -f --follow"),
        *runs("secret", "create list delete"),
        *runs("queue", "list peek len clear delete", "of living sessions with a named app"),
        *runs("dict", "list get items clear delete", "of living sessions with a named app"),
        *refused("queue", {"create": _SHARED}),
        *refused("dict", {"create": _SHARED}),
        *runs("volume", "create delete list ls get put cp rm rename"),
        *refused(
            "app",
            {
                "rollback": "deploy the older script: lifecycle-magic deploy script.py",
                "rollover": "lifecycle-magic deploy script.py once more",
                "history": "lifecycle-magic history",
                "info stats dashboard": "lifecycle-magic ps",
            },
        ),
        *refused(
            "lifecycle-magic",
            {
                "container": "lifecycle-magic ps, logs and stop",
                "function server": "lifecycle-magic apps, and ps",
                "image": "lifecycle-magic ps --images, and prune",
                "curl": "curl itself: serve prints the address and the token",
                "endpoint launch": "declare a class in a script",
                "nfs": "lifecycle-magic volume",
                "token setup profile workspace billing": _ACCOUNT,
                "environment": _ONE,
                "config": "set options in the script, or by LIFECYCLE_MAGIC_... variables",
                "dashboard": "lm.panel() in a notebook, or lifecycle-magic ps",
                "changelog skills": "see the documentation of this package",
            },
        ),
    ),
)

SECTIONS = (COMMANDS,)
