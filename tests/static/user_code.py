"""Code as users write it, for type checkers: `test_user_code` runs them over it.

A line with ``# error`` is a mistake that a type checker has to find; no other line may be one.
"""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_type

import lifecycle_magic as lm
from lifecycle_magic import FunctionCall
from lifecycle_magic.volume import FileEntry

app = lm.App("typed", cpu=2, memory=(512, 1024))
bad = lm.App("typed", cpus=2)  # error
image = lm.Image.debian_slim().pip_install("numpy")


@app.cls(gpu="A100:2", image=image, volumes={"/data": lm.Volume.from_name("data")})
class Model:
    size: int = lm.parameter(default=3)

    @lm.enter()
    def load(self) -> None:
        self.weights = [1.0]

    @lm.method()
    def predict(self, n: int, *, text: str = "a") -> list[float]:
        self.helper(n)
        return self.weights * n

    @lm.method
    def helper(self, n: int) -> int:
        return n

    @lm.method()
    async def later(self, n: int) -> str:
        return str(n)

    @lm.method()
    def items(self, n: int) -> Iterator[int]:
        yield n

    @lm.exit()
    def close(self) -> None:
        self.weights.clear()

    def plain(self) -> int:
        return 1


model = Model()
assert_type(model, Model)
assert_type(model.predict.remote(1, text="b"), list[float])
assert_type(model.helper.remote(1), int)
assert_type(model.predict.local(2), list[float])
assert_type(model.predict.spawn(1), FunctionCall[list[float]])
assert_type(model.predict.spawn(1).get(timeout=3), list[float])
assert_type(list(model.predict.map([1, 2], order_outputs=False)), list[list[float]])
assert_type(list(model.predict.starmap([(1,), (2,)])), list[list[float]])
model.predict.for_each([1, 2], ignore_exceptions=True)
for item in model.items.remote_gen(3):
    assert_type(item, int)
model.predict.remote("1")  # error
model.predict.remote(1, texts="b")  # error
model.predict.spawn()  # error
model.plain()
print(model.nothing)  # error
Model(size=4)  # error of mypy, which does not read dataclass_transform on a method
Model(sizes=4)  # error


async def use() -> None:
    assert_type(await model.predict.remote.aio(1), list[float])
    assert_type(await model.predict.spawn(1), list[float])
    await model.later.remote(1)
    async for values in model.predict.map.aio([1, 2]):
        assert_type(values, list[float])


@app.function(timeout=60, retries=lm.Retries(max_retries=2))
def square(n: int) -> int:
    return n * n


assert_type(square.remote(2), int)
assert_type(square.local(2), int)
assert_type(list(square.map([1, 2])), list[int])
assert_type(square.with_options(timeout=60).remote(2), int)
square.update_autoscaler(min_containers=1)
square.remote("2")  # error
square.with_options(time_out=3)  # error
app.function(time_out=3)  # error
app.deploys()  # error


@app.local_entrypoint()
def main(n: int = 3) -> None:
    print(square.remote(n))


main(4)


# --- in the style of Modal's programs -------------------------------------------------------------

jobs = lm.Queue.from_name("jobs", create_if_missing=True)
seen = lm.Dict.from_name("seen", create_if_missing=True)
data = lm.Volume.from_name("data", create_if_missing=True)
served = lm.App("served", image=image, secrets=[lm.Secret.from_name("a")], volumes={"/d": data})


@served.cls(enable_memory_snapshot=True, region="us-east", cloud="aws", timeout=60 * 20)
@lm.concurrent(max_inputs=20, target_inputs=16)
class Server:
    @lm.enter(snap=True)
    def start(self) -> None: ...

    @lm.web_server(port=8000, startup_timeout=60)
    def serve(self) -> None: ...

    @lm.fastapi_endpoint(method="POST", docs=True)
    def ask(self, item: dict[str, int]) -> dict[str, int]:
        return item

    @lm.batched(max_batch_size=4, wait_ms=100)
    def embed(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


@served.function(image=image.uv_pip_install("six").env({"A": "1"}).add_local_dir(".", "/x"))
@lm.asgi_app(label="page", custom_domains=None)
def page() -> object:
    return None


@served.function(gpu=["A100", "any"], max_inputs=1)  # a name that Modal had, which runs
def worker(queue: lm.Queue, results: lm.Dict) -> int:
    item = queue.get(timeout=1.0, partition="p")
    results["a"] = item
    return results.len()


def use_objects() -> None:
    with served.run():
        assert_type(worker.remote(jobs, seen), int)
        assert_type(page.get_web_url(), str)
    with lm.Queue.ephemeral() as one, lm.Dict.ephemeral() as other, lm.Volume.ephemeral():
        assert_type(worker.spawn(one, other).get(timeout=5, index=0), int)
    with data.batch_upload(force=True) as batch:
        batch.put_file("a", "/b")
    assert_type(data.listdir("/", recursive=True), list[FileEntry])
    call = lm.FunctionCall.from_id("fc-1")
    call.cancel(terminate_containers=True)
    for value in worker.spawn(jobs, seen).iter():
        assert_type(value, int)
    assert_type(jobs.objects.list(), list[lm.Queue])
    jobs.put(1, tiemout=3)  # error
    lm.Volume.from_name(3)  # error
    results = list(square.map([1], return_exceptions=True, wrap_returned_exceptions=False))
    assert_type(results, list[int])


async def use_objects_async() -> None:
    async with served.run():
        await worker.update_autoscaler.aio(min_containers=1)
    async with served.run.aio(), lm.Queue.ephemeral() as queue:
        await queue.put.aio(1)
        assert_type(await queue.len.aio(), int)
    async with data.batch_upload.aio(force=True) as batch:
        batch.put_file("a", "/b")
    assert_type((await lm.FunctionCall.from_id.aio("fc-1")).done(), bool)
    assert_type(await data.hydrate.aio(), lm.Volume)
    await served.stop.aio()
