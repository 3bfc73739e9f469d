"""Run a script's entry point with the plain meaning of lifecycle classes."""

from __future__ import annotations

import argparse
import inspect
import runpy
import sys

from corpus import plain_lm


def main(path: str, options: list[str]) -> None:
    sys.modules["lifecycle_magic"] = plain_lm
    names = runpy.run_path(path)
    [app] = [value for value in names.values() if isinstance(value, plain_lm.App)]
    [function] = app.entrypoints
    parser = argparse.ArgumentParser()
    for one in inspect.signature(function, eval_str=True).parameters.values():
        required = one.default is one.empty
        kind = one.annotation if one.annotation is not one.empty else str
        parser.add_argument(
            f"--{one.name}",
            type=kind,
            required=required,
            **({} if required else {"default": one.default}),
        )
    function(**vars(parser.parse_args(options)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
