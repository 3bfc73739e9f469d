"""What only a machine with GPUs shows: containers see the devices that they were given.

``make test-gpu`` runs this. The driver library of CUDA is asked itself: no image needs a package.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import lifecycle_magic as lm
from lifecycle_magic.gpus import inventory
from lifecycle_magic.session import session


class Cuda:
    @lm.method()
    def uuids(self) -> list[str]:
        import ctypes
        import uuid

        cuda = ctypes.CDLL("libcuda.so.1")
        assert cuda.cuInit(0) in (0, 100)  # 100: there is no device
        count = ctypes.c_int(0)
        cuda.cuDeviceGetCount(ctypes.byref(count))
        found = []
        for n in range(count.value):
            device, id = ctypes.c_int(), (ctypes.c_ubyte * 16)()
            assert cuda.cuDeviceGet(ctypes.byref(device), n) == 0
            assert cuda.cuDeviceGetUuid(ctypes.byref(id), device) == 0
            found.append(f"GPU-{uuid.UUID(bytes=bytes(id))}")
        return found

    @lm.method()
    def allocate(self, mebibytes: int) -> int:
        """Allocate memory of the first device in its primary context."""
        import ctypes

        cuda = ctypes.CDLL("libcuda.so.1")
        context, place = ctypes.c_void_p(), ctypes.c_uint64()
        assert cuda.cuInit(0) == 0
        assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
        assert cuda.cuCtxSetCurrent(context) == 0
        failed: int = cuda.cuMemAlloc_v2(ctypes.byref(place), ctypes.c_size_t(mebibytes << 20))
        return failed


@pytest.fixture
def app(engine_name: str, request: pytest.FixtureRequest) -> Iterator[lm.App]:
    if not inventory.find():
        pytest.fail("no GPU is on this machine", pytrace=False)
    yield lm.App(request.node.name, engine=engine_name)
    session.close("the test is over")


def test_the_devices_are_those_of_nvidia_smi() -> None:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    found = inventory.find()
    assert found
    assert all(gpu.id in listed for gpu in found)
    assert set(inventory.uses()) == {gpu.id for gpu in found}


def test_a_container_sees_the_gpu_that_it_was_given_and_can_use_it(app: lm.App) -> None:
    ids = [gpu.id for gpu in inventory.find()]
    seen = []
    for n in range(len(ids)):
        model = app.cls(Cuda, name=f"Cuda{n}", gpu=1)()
        seen += model.uuids.remote()
        assert model.allocate.remote(256) == 0
    assert sorted(seen) == sorted(ids)


def test_all_devices_of_a_machine_go_to_one_container(app: lm.App) -> None:
    assert len(app.cls(Cuda, gpu="all")().uuids.remote()) == len(inventory.find())


def test_a_shared_gpu_is_one_device_for_both(app: lm.App) -> None:
    first, second = (app.cls(Cuda, name=name, gpu_memory=512)() for name in ("First", "Second"))
    assert first.uuids.remote() == second.uuids.remote()
    uses = inventory.uses()
    assert uses[first.uuids.remote()[0]].total > 0
