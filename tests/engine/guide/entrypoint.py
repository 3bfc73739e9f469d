"""A function, and an entry point whose parameters come from the command line."""

import lifecycle_magic as modal

app = modal.App("entrypoint")


@app.function()
def square(x: int) -> int:
    print("squaring", x)
    return x * x


@app.local_entrypoint()
def main(number: int, times: int = 1):
    for _ in range(times):
        number = square.remote(number)
    print("result", number)
    print("here", square.local(3))
