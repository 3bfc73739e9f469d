"""What the live panel sends for 100 containers: how often, and how many bytes.

The containers are real, of the process engine. Everything that the widget hands to Jupyter is
counted where a kernel would put it on the wire.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.figures import Amount, Figures
from benchmarks.plan import Plan

COUNT = 100
SECONDS = 10.0
MOST_UPDATES = 5.0

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
from lifecycle_magic.panel.pace import RENEW

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
        time.sleep(min(left, RENEW))
    return Counted.messages / seconds, Counted.size / seconds

told = {}
panel.set_state({"look": {"client": "bench", "visible": True, "count": 0}})
while len(panel.containers) < count or len(panel.samples_new.get("of", ())) < count:
    time.sleep(0.1)
told["idle"] = measured(True)
threading.Thread(target=work, daemon=True).start()
while sum(life[0] == "busy" for life in panel.lives.values()) < count // 10:
    time.sleep(0.1)
told["busy"] = measured(True)
panel.set_state({"look": {"client": "bench", "visible": False, "count": 0}})
time.sleep(1)
told["unseen"] = measured(False)
Counted.messages = Counted.size = 0
panel.send_state([name for name in panel.keys if not name.startswith("_")])
told["whole"] = Counted.messages, Counted.size
print(json.dumps(told), flush=True)
"""


def measure(plan: Plan) -> Figures:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(COUNT), str(2.0 if plan.quick else SECONDS)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    who = f"{COUNT} containers"
    amounts = [Amount("panel, first state of a page", who, told["whole"][1] / 1024, "KiB")]
    for name, what in {"idle": "all idle", "busy": "all busy", "unseen": "nobody looks"}.items():
        updates, size = told[name]
        most = 0.0 if name == "unseen" else MOST_UPDATES
        amounts.append(Amount(f"panel, {what}: updates", who, updates, "/s", most))
        amounts.append(Amount(f"panel, {what}: bytes", who, size / 1024, "KiB/s"))
    return Figures(amounts=tuple(amounts))
