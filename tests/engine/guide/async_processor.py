"""Everything async: a hook fills a cache, a method reads it, the entry point awaits the method."""

import asyncio

import lifecycle_magic as modal

app = modal.App("async-processor")


async def load_cache():
    await asyncio.sleep(0)
    return {"unit": "m"}


@app.cls(memory=1024)
class Processor:
    @modal.enter()
    async def warm_up(self):
        self.lock = asyncio.Lock()  # bound to the container's loop
        self.cache = await load_cache()

    @modal.method()
    async def run(self, x):
        async with self.lock:
            await asyncio.sleep(0)
            return f"{x} {self.cache['unit']}"


@app.local_entrypoint()
async def main():
    processor = Processor()
    print("awaited", await processor.run.remote(x=123))
    print("awaited together", await asyncio.gather(*(processor.run.remote(x) for x in range(3))))
