"""The modules that ``import lifecycle_magic`` and ``%load_ext lifecycle_magic`` load.

Each module takes time in every kernel, and some have data classes, of which each takes a
millisecond to create. A module that is needed with the first class, call or command is imported
there, inside of a function. A new name in a list here is a decision to load it in every kernel.
"""

from __future__ import annotations

import subprocess
import sys

BEFORE_A_NAME_IS_USED = """
import sys
before = set(sys.modules)
import lifecycle_magic
new = set(sys.modules) - before
print(*sorted(name for name in new if name.partition(".")[0] not in sys.stdlib_module_names))
"""

LOADED = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
before = {name.partition(".")[0] for name in sys.modules}
shell.run_line_magic("load_ext", "lifecycle_magic")
print(*sorted(m.partition(".")[2] for m in sys.modules if m.startswith("lifecycle_magic.")))
others = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print(*sorted(others - {"lifecycle_magic"}))
"""

WITH_THE_EXTENSION = """
building building.build_steps
callers callers.internal_frames callers.methods_with_aio callers.object_calls callers.tracebacks
    callers.with_aio
container container.record container.registry
decorators decorators.classes decorators.direct_call decorators.hooks decorators.marks
    decorators.parameters decorators.travel
engines engines.output_tail engines.process engines.process.keeper
exception
guest guest.signals
host host.checked_json host.disk_full host.docker_contexts host.keep_record host.ledger host.owner
    host.paths host.private_file host.process_limit host.relay_lock host.run_files host.safe_folder
    host.salt host.served_names host.temporary_names
lifecycle lifecycle.bus lifecycle.diagnostics lifecycle.history lifecycle.logs lifecycle.report
    lifecycle.states
services services.object_store services.stored_dict
session session.exit_records session.served_calls session.session session.shortages session.sweep
spec spec.number_checks spec.old_options spec.option_checks spec.options spec.unknown_options
threads threads.event_loop threads.futures
ui ui.command_table ui.notebook ui.notebook.cell_classes ui.notebook.magic
    ui.notebook.options_line ui.notebook.run_cell ui.notebook.stale_names
web web.address web.port_users web.site
wire wire.buffers wire.descriptors wire.dispatch_table wire.exceptions wire.frame_header wire.nested
    wire.pickling wire.reading_values wire.host_settings
"""


def _printed(program: str) -> list[str]:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")


def test_the_package_loads_no_module_before_a_name_is_used() -> None:
    assert _printed(BEFORE_A_NAME_IS_USED)[0] == "lifecycle_magic"


def test_the_extension_loads_what_every_kernel_needs_alone() -> None:
    ours, others, _ = _printed(LOADED)
    wanted = set(WITH_THE_EXTENSION.split())
    assert set(ours.split()) - wanted == set(), "import these where they are first needed"
    assert wanted - set(ours.split()) == set(), "these are not loaded any more: drop them here"
    assert others == ""
