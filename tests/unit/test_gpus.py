"""The choice and the leases of GPUs, on machines that `fakes/nvml` makes up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.gpus import amd, inventory, request
from lifecycle_magic.gpus.choice import TakenDevices, choose, lacking
from lifecycle_magic.gpus.device import Gpu, GpuUse
from lifecycle_magic.gpus.environment import variables
from lifecycle_magic.gpus.leases import GpuLeases
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.spec.options import Options

NVML = Path(__file__).parents[1] / "fakes" / "nvml"
CARDS = tuple(
    Gpu(f"GPU-{letter}000", n, "NVIDIA A100-SXM4-40GB", 40960) for n, letter in enumerate("abcd")
)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that gives this machine the GPUs of a list, as NVML reports them."""
    monkeypatch.syspath_prepend(NVML)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(inventory, "KEPT_SECONDS", 0.0)

    def give(gpus: list[dict[str, Any]] | None) -> None:
        monkeypatch.setenv("FAKE_GPUS", json.dumps(gpus))

    yield give
    sys.modules.pop("pynvml", None)


# --- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "count", "model", "ids"),
    [
        (2, 2, "", ()),
        ("2", 2, "", ()),
        ("any", 1, "", ()),
        ("A100", 1, "A100", ()),
        ("a100-80gb:4", 4, "a100-80gb", ()),
        ("H100!:8", 8, "H100!", ()),
        ("all", None, "", ()),
        ("device=0, GPU-3a", 2, "", ("0", "GPU-3a")),
    ],
)
def test_each_form_of_the_option(
    written: Any, count: int | None, model: str, ids: tuple[str, ...]
) -> None:
    (found,) = request.read(written)
    assert (found.count, found.model, found.ids) == (count, model, ids)


def test_a_list_keeps_its_order() -> None:
    assert Options.make("Model", gpu=["H100", "A100:2", 1]).gpu == ("H100", "A100:2", 1)
    assert [one.model for one in request.read(("H100", "A100:2", 1))] == ["H100", "A100", ""]


@pytest.mark.parametrize("wrong", ["A100:0", "A100:x", "A100:", "", 0, -1, [], ["A100", 0],
                                   "device=,", "A100;rm", 1.5])  # fmt: skip
def test_what_is_no_gpu_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(InvalidError, match=r"Model: gpu="):
        Options.make("Model", gpu=wrong)


def test_a_share_is_of_one_device() -> None:
    assert Options.make("Model", gpu_memory=8000).gpu_requests()[0].memory == 8000
    for several in (2, "A100:2", "all", ["A100", "L4:2"]):
        with pytest.raises(InvalidError, match="a share of one device"):
            Options.make("Model", gpu=several, gpu_memory=8000)
    with pytest.raises(InvalidError, match="gpu_memory=0"):
        Options.make("Model", gpu_memory=0)


@pytest.mark.parametrize(
    ("name", "memory", "models", "others"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, "A100 a100-80gb any", "A100-40GB A10 H100"),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100-40GB", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100 H100! H100-80GB", "H200 H100-40GB"),
        ("NVIDIA H200", 143771, "H200", "H100"),
        ("NVIDIA B200", 183359, "B200+", "B100"),
        ("NVIDIA A10G", 23028, "A10 A10G A10G-24GB", "A100"),
        ("Tesla T4", 15360, "T4 T4-16GB", "L4"),
        ("NVIDIA L40S", 46068, "L40S", "L4 L40"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX4090 RTX-4090 GeForce-4090", "RTX-3090 RTX409"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTX-PRO-6000", "RTX-6000-ADA"),
        ("AMD Instinct MI300X OAM", 196592, "MI300X", "MI250"),
    ],
)
def test_models_by_the_names_that_users_write(
    name: str, memory: int, models: str, others: str
) -> None:
    card = Gpu("GPU-a", 0, name, memory)
    for model in models.split():
        assert request.read(model)[0].accepts(card), model
    for model in others.split():
        assert not request.read(model)[0].accepts(card), model


# --- what there is -------------------------------------------------------------------------------


def test_the_devices_that_nvml_reports(machine: Any) -> None:
    divided = [{"uuid": f"MIG-{n}", "name": "NVIDIA A100 MIG 1g.5gb", "memory": 4864} for n in "ab"]
    machine(
        [
            {"uuid": "GPU-1", "name": "Tesla T4", "memory": 15360, "used": 300, "load": 25},
            {"uuid": "GPU-2", "name": "NVIDIA A100", "memory": 40960, "mig": divided},
        ]
    )
    found = inventory.find()
    assert [(one.id, one.index, one.nodes) for one in found] == [
        ("GPU-1", 0, ("/dev/nvidia0",)),
        ("MIG-a", 1, ("/dev/nvidia1",)),
        ("MIG-b", 2, ("/dev/nvidia1",)),
    ]
    uses = inventory.uses()
    assert uses["GPU-1"] == GpuUse(300 << 20, 15360 << 20, 0.25)
    assert uses["MIG-a"].load is None


def test_without_a_driver_or_the_package_nothing_is_found(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(inventory, "_DRIVER", tmp_path)
    machine(None)
    assert inventory.find() == ()
    assert not inventory.uses()
    assert not inventory.has_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert inventory.find() == ()


def test_the_driver_lists_devices_where_nvml_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(inventory, "_DRIVER", tmp_path)
    monkeypatch.setattr(inventory, "KEPT_SECONDS", 0.0)
    for bus, minor, uuid in (("0000:3b:00.0", 1, "GPU-b"), ("0000:5e:00.0", 0, "GPU-??")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(
            f"Model: \t\t NVIDIA L4\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        )
    assert inventory.find() == (
        Gpu("0", 0, "NVIDIA L4", None, ("/dev/nvidia0",)),
        Gpu("GPU-b", 1, "NVIDIA L4", None, ("/dev/nvidia1",)),
    )


def test_devices_of_amd_are_read_from_the_kernel(tmp_path: Path) -> None:
    for n, text in enumerate(
        ("simd_count 0\ndrm_render_minor 0\n",
         "simd_count 912\nunique_id 255\ndrm_render_minor 129\n")
    ):  # fmt: skip
        (tmp_path / f"nodes/{n}").mkdir(parents=True)
        (tmp_path / f"nodes/{n}/properties").write_text(text)
    device = tmp_path / "drm/renderD129/device"
    device.mkdir(parents=True)
    (device / "mem_info_vram_total").write_text(f"{64 << 30}\n")
    (device / "mem_info_vram_used").write_text(f"{1 << 30}\n")
    (device / "gpu_busy_percent").write_text("50\n")
    (device / "product_name").write_text("AMD Instinct MI300X\n")
    (card,) = amd.find(tmp_path / "nodes", tmp_path / "drm")
    node = ("/dev/dri/renderD129",)
    assert card == Gpu("GPU-00000000000000ff", 0, "AMD Instinct MI300X", 65536, node, "amd")
    (use,) = amd.uses(tmp_path / "nodes", tmp_path / "drm").values()
    assert use == GpuUse(1 << 30, 64 << 30, 0.5)
    assert variables([card]) == {
        "CUDA_VISIBLE_DEVICES": "0",
        "ROCR_VISIBLE_DEVICES": card.id,
        "HIP_VISIBLE_DEVICES": "0",
    }


@pytest.mark.parametrize(
    ("variable", "seen"), [("", "0123"), ("1,3", "13"), ("GPU-c", "2"), ("-1", "0123")]
)
def test_a_batch_systems_choice_is_kept(variable: str, seen: str) -> None:
    found = inventory.visible(CARDS, {"CUDA_VISIBLE_DEVICES": variable})
    assert "".join(str(gpu.index) for gpu in found) == seen


# --- which are chosen ----------------------------------------------------------------------------


def chosen(written: Any, *taken: TakenDevices, memory: int | None = None, **uses: int) -> str:
    used = {gpu.id: GpuUse(uses.get(f"gpu{gpu.index}", 0) << 20, 40 << 30) for gpu in CARDS}
    found = choose(request.read(written, memory), CARDS, taken, used)
    return "".join(str(gpu.index) for gpu in found)


def test_free_devices_are_taken_in_order_and_never_twice() -> None:
    assert chosen(1) == "0"
    assert chosen(2, TakenDevices((CARDS[0].id,))) == "12"
    assert chosen(4, TakenDevices((CARDS[0].id,))) == ""
    assert chosen("all") == "0123"
    assert chosen("all", TakenDevices((CARDS[0].id,))) == ""
    assert chosen("device=1,3") == "13"
    assert chosen("device=1,3", TakenDevices((CARDS[3].id,))) == ""


def test_a_device_that_other_programs_use_comes_last() -> None:
    assert chosen(1, gpu0=5000, gpu1=20) == "1"
    assert chosen(1, gpu0=5000, gpu1=5000, gpu2=5000, gpu3=5000) == "0"


def test_the_first_alternative_with_enough_devices_wins() -> None:
    assert chosen(["H100", "A100:2"]) == "01"
    assert chosen(["A100:4", "A100:2"], TakenDevices((CARDS[0].id,))) == "12"


def test_shares_fill_one_device_before_the_next() -> None:
    half = TakenDevices((CARDS[1].id,), 20000)
    assert chosen("any", half, memory=20000) == "1"
    assert chosen("any", half, memory=21000) == "0"
    assert chosen("any", half, half, memory=1000) == "0"
    assert chosen(4, half) == ""  # a whole device is nobody else's


def test_what_can_never_be_had_is_said_with_what_there_is() -> None:
    assert lacking(request.read("A100:4"), CARDS) == ""
    assert lacking(request.read(["H100", "A100"]), CARDS) == ""
    assert "gpu='H100': there is only 4 x NVIDIA A100" in lacking(request.read("H100"), CARDS)
    assert "gpu=8" in lacking(request.read(8), CARDS)
    assert "gpu_memory=50000" in lacking(request.read("any", 50000), CARDS)
    assert "gpu='device=7'" in lacking(request.read("device=7"), CARDS)


# --- leases --------------------------------------------------------------------------------------


def take(leases: GpuLeases, name: str, written: Any = 1, memory: int | None = None) -> Any:
    return leases.take(request.read(written, memory), CARDS, name, "Model", {})


def test_a_lease_lasts_until_it_is_released(tmp_path: Path) -> None:
    leases = GpuLeases(tmp_path)
    assert leases.held() == []
    (lease, devices) = take(leases, "lm-a", 3)
    assert [gpu.index for gpu in devices] == [0, 1, 2]
    assert take(leases, "lm-b", 2) is None
    assert [one.container for one in leases.held()] == ["lm-a"]
    leases.release(lease)
    assert leases.held() == []
    assert take(leases, "lm-b", 2) is not None
    assert (tmp_path / "gpus").stat().st_mode & 0o077 == 0


def test_a_container_keeps_its_device_until_its_own_process_has_ended(tmp_path: Path) -> None:
    leases = GpuLeases(tmp_path)
    (lease, _) = take(leases, "lm-a", 4)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = Owner.me()
    started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    lease = leases.set_process(lease, Owner(process.pid, started, me.boot))
    leases.release(lease)
    assert take(leases, "lm-b") is None
    process.communicate(b"\n")
    assert take(leases, "lm-b") is not None


def test_damaged_leases_are_removed(tmp_path: Path) -> None:
    leases = GpuLeases(tmp_path)
    assert take(leases, "lm-a") is not None
    good = (tmp_path / "gpus/lm-a.json").read_text()
    for n, bad in enumerate(("", "{", "[]", "{}", good.replace('"pid"', '"pod"'), "[" * 9999)):
        (tmp_path / f"gpus/lm-bad{n}.json").write_text(bad)
    assert [one.container for one in leases.held()] == ["lm-a"]
    take(leases, "lm-b")
    assert sorted(path.stem for path in (tmp_path / "gpus").glob("*.json")) == ["lm-a", "lm-b"]


RACER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from lifecycle_magic.gpus import request
    from lifecycle_magic.gpus.device import Gpu
    from lifecycle_magic.gpus.leases import GpuLeases

    cards = tuple(Gpu(f"GPU-{n}", n) for n in range(4))
    leases, wanted = GpuLeases(Path(sys.argv[1])), request.read(1)
    for turn in range(int(sys.argv[3])):
        found = None
        while found is None:
            found = leases.take(wanted, cards, f"{sys.argv[2]}-{turn}", "Model", {})
        lease, (card,) = found
        mark = Path(sys.argv[1]) / card.id
        mark.touch(exist_ok=False)  # raises if another process has this device
        mark.unlink()
        leases.release(lease)
    if sys.argv[4:]:
        leases.take(wanted, cards, sys.argv[2], "Model", {})
        print("has one", flush=True)
        input()
    """
)


def racer(folder: Path, name: str, turns: int, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACER, str(folder), name, str(turns), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_racing_processes_never_have_the_same_device(tmp_path: Path) -> None:
    racing = [racer(tmp_path, f"lm-{n}", 60) for n in range(6)]
    for one in racing:
        output, _ = one.communicate()
        assert one.returncode == 0, output
    assert GpuLeases(tmp_path).held() == []


def test_the_devices_of_killed_processes_are_free(tmp_path: Path) -> None:
    leases = GpuLeases(tmp_path)
    holders = [racer(tmp_path, f"lm-{n}", 0, "and hold") for n in range(4)]
    with contextlib.ExitStack() as stack:
        for one in holders:
            stack.callback(one.communicate)
            assert one.stdout is not None
            assert one.stdout.readline() == "has one\n"
        assert len({lease.gpus for lease in leases.held()}) == 4
        assert leases.take(request.read(1), cards4(), "lm-x", "Model", {}) is None
        for one in holders:
            os.kill(one.pid, signal.SIGKILL)
    assert leases.held() == []
    assert leases.take(request.read("all"), cards4(), "lm-x", "Model", {}) is not None


def cards4() -> tuple[Gpu, ...]:
    return tuple(Gpu(f"GPU-{n}", n) for n in range(4))
