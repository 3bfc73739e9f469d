"""One method as ``build`` and as ``enter``: what the one downloads, the other finds and loads."""

import uuid
from pathlib import Path

import lifecycle_magic as modal

CACHE = Path("cache")

app = modal.App("build-and-enter")


@app.cls()
class Model:
    @modal.build()
    @modal.enter()
    def load(self):
        file = CACHE / "id"
        self.downloaded = not file.exists()
        if self.downloaded:
            CACHE.mkdir(exist_ok=True)
            file.write_text(uuid.uuid4().hex)
        self.id = file.read_text()

    @modal.method()
    def weights(self):
        return self.id, self.downloaded


@app.local_entrypoint()
def main():
    weights, downloaded = Model().weights.remote()
    print("weights", weights)
    print("downloaded by enter", downloaded)
