"""``build`` fetches weights while the image is built; ``enter`` finds them in every container."""

import uuid
from pathlib import Path

import lifecycle_magic as modal

WEIGHTS = Path("weights")

app = modal.App("build-download")


def download(folder: Path) -> None:
    """Stands for a download: what it gets is another each time it runs."""
    folder.mkdir()
    (folder / "id").write_text(uuid.uuid4().hex)


@app.cls()
class Model:
    @modal.build()
    def fetch(self):
        download(WEIGHTS)
        self.fetched = True  # stays in the build's container

    @modal.enter()
    def load(self):
        self.id = (WEIGHTS / "id").read_text()

    @modal.method()
    def weights(self):
        return self.id

    @modal.method()
    def was_fetched_here(self):
        return hasattr(self, "fetched")


@app.local_entrypoint()
def main():
    print("weights", Model().weights.remote())
    print("fetched here", Model().was_fetched_here.remote())
