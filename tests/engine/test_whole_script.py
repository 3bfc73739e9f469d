"""One script with hooks, a volume, a secret, a map and a web endpoint: the same in every way."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

SCRIPT = '''\
"""Count words, keep them in a volume, and show them on a page."""

import os
import urllib.request

import lifecycle_magic as modal

image = modal.Image.debian_slim().env({"UNIT": "words"})
counts = modal.Volume.from_name("counts")
token = modal.Secret.from_dict({"TOKEN": "hidden"})

app = modal.App("words", image=image)


@app.function(retries=1)
def clean(text: str) -> str:
    return "".join(one for one in text.lower() if one.isalpha() or one == " ")


@app.cls(volumes={"/counts": counts}, secrets=[token], max_containers=1)
class Counter:
    least: int = modal.parameter(default=1)

    @modal.enter()
    def load(self):
        self.unit = os.environ["UNIT"]
        self.allowed = os.environ["TOKEN"] == "hidden"
        self.seen = 0

    @modal.method()
    def count(self, text: str) -> int:
        self.seen += 1
        found = [one for one in clean.remote(text).split() if len(one) >= self.least]
        return len(found)

    @modal.method()
    def keep(self, name: str, number: int) -> None:
        with open(f"/counts/{name}", "w") as file:
            file.write(f"{number} {self.unit}")
        counts.commit()

    @modal.method()
    def facts(self) -> tuple:
        return self.seen, self.allowed, self.least

    @modal.exit()
    def close(self):
        with open(f"/counts/closed-{self.least}", "w") as file:
            file.write(f"{self.seen} seen")


@app.cls(volumes={"/counts": counts})
class Page:
    @modal.wsgi_app()
    def show(self):
        def answer(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            lines = []
            for name in sorted(os.listdir("/counts")):
                with open(f"/counts/{name}") as file:
                    lines.append(f"{name}: {file.read()}")
            return ["\\n".join(lines).encode()]

        return answer


TEXTS = ["One, two!", "Three four five.", "Six"]


@app.local_entrypoint()
def main(least: int = 1):
    counter = Counter(least=least)
    numbers = list(counter.count.map(TEXTS))
    print(numbers)
    for number, text in zip(numbers, TEXTS):
        counter.keep.remote(text.split()[0].strip(",").lower(), number)
    print(counter.facts.remote())
    with urllib.request.urlopen(Page().show.get_web_url()) as page:
        print(page.read().decode())


if __name__ == "__main__":
    with app.run():
        main()
'''
SHOWN = """\
[2, 3, 1]
(3, True, 1)
one: 2 words
six: 1 words
three: 3 words
"""


def test_a_whole_script_is_the_same_by_python_run_and_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine_name: str
) -> None:
    command = [sys.executable, "-m", "lifecycle_magic"]
    outputs = []
    try:
        for way, words in (("python", [sys.executable]), ("run", [*command, "run", "-q"])):
            monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / way))
            volume = f"counts-{tmp_path.parent.name}-{way}"  # an engine keeps it for all states
            (tmp_path / "words.py").write_text(SCRIPT.replace('"counts"', f'"{volume}"'))
            words = [*words, "words.py"]
            told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
            assert told.returncode == 0, told.stderr
            outputs.append(told.stdout)
        assert outputs == [SHOWN, SHOWN]

        serve = subprocess.Popen(
            [*command, "serve", "--no-reload", "words.py"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with serve:
            assert serve.stdout is not None
            where, url = serve.stdout.readline().split()
            assert where == "Page.show"
            with urllib.request.urlopen(url) as page:
                shown = page.read().decode().splitlines()
            serve.terminate()
        # As the runs have left the volume, with what exit wrote.
        assert shown == ["closed-1: 3 seen", *SHOWN.splitlines()[2:]]
        assert serve.returncode == 0
    finally:
        for way in ("python", "run"):
            monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / way))
            name = f"counts-{tmp_path.parent.name}-{way}"
            subprocess.run([*command, "volume", "delete", "-y", name], capture_output=True)
