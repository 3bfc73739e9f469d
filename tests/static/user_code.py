"""Code as users write it, for type checkers: `test_user_code` runs them over it.

A line with ``# error`` is a mistake that a type checker has to find; no other line may be one.
"""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_type

import lifecycle_magic as lm
from lifecycle_magic import FunctionCall

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
