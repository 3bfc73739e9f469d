"""The messages of the live panel for 100 containers: how many, and how many bytes.

The containers are real ones of the process engine. All messages that the widget hands to Jupyter
are counted at the place where a kernel would send them.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.figures import Amount, Figures
from benchmarks.plan import Plan

COUNT = 100
SECONDS = 10.0
MAX_UPDATES_PER_SECOND = 5.0

_PROGRAM = """
import json, sys, threading, time
import comm
from comm.base_comm import BaseComm

count, seconds = int(sys.argv[1]), float(sys.argv[2])

class Counted(BaseComm):
    messages = size = 0

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        Counted.messages += 1
        Counted.size += len(json.dumps(dict(data=data, comm_id=self.comm_id, **keys)))

comm.create_comm = lambda *args, **kwargs: Counted(*args, **kwargs)

import lifecycle_magic as lm
from lifecycle_magic.ui.panel.pace import RENEW_SECONDS

class Crowd:
    @lm.method()
    def hold(self, seconds):
        time.sleep(seconds)

app = lm.App("bench-panel")
crowd = app.cls(Crowd, engine="process", max_containers=count)()
held = [crowd.hold.spawn(5) for _ in range(count)]
lm.gather(*held)

panel = lm.panel()

def work():
    list(crowd.hold.map([0.02] * count * 1000, order_outputs=False))

def measured(looks):
    Counted.messages = Counted.size = 0
    began = time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        panel.set_state({"look": {"client": "bench", "visible": looks, "count": time.time()}})
        time.sleep(min(left, RENEW_SECONDS))
    return Counted.messages / seconds, Counted.size / seconds

sent = {}
panel.set_state({"look": {"client": "bench", "visible": True, "count": 0}})
while len(panel.containers) < count or len(panel.samples_new.get("of", ())) < count:
    time.sleep(0.1)
sent["idle"] = measured(True)
threading.Thread(target=work, daemon=True).start()
while sum(life[0] == "busy" for life in panel.lives.values()) < count // 10:
    time.sleep(0.1)
sent["busy"] = measured(True)
panel.set_state({"look": {"client": "bench", "visible": False, "count": 0}})
time.sleep(1)
sent["unseen"] = measured(False)
Counted.messages = Counted.size = 0
panel.send_state([name for name in panel.keys if not name.startswith("_")])
sent["whole"] = Counted.messages, Counted.size
print(json.dumps(sent), flush=True)
"""


def measure(plan: Plan) -> Figures:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(COUNT), str(2.0 if plan.quick else SECONDS)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    sent = json.loads(done.stdout.splitlines()[-1])
    who = f"{COUNT} containers"
    amounts = [Amount("panel, first state of a page", who, sent["whole"][1] / 1024, "KiB")]
    for name, what in {"idle": "all idle", "busy": "all busy", "unseen": "nobody looks"}.items():
        updates, size = sent[name]
        most = 0.0 if name == "unseen" else MAX_UPDATES_PER_SECOND
        amounts.append(Amount(f"panel, {what}: updates", who, updates, "/s", most))
        amounts.append(Amount(f"panel, {what}: bytes", who, size / 1024, "KiB/s"))
    return Figures(amounts=tuple(amounts))
