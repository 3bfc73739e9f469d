"""The memory of torch tensors, outside the pickle.

torch reduces a tensor to the storage that it views and to how it views it: dtype, offset, shape,
strides, flags, class. Only the storage is reduced here, so that every kind of tensor, parameter and
module means what it means to torch. torch itself writes a storage as a file inside the pickle, once
for each tensor that views it. Here it travels once, and tensors that share memory share it on
arrival.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import pickle
from typing import Any

__all__ = [
    "make_leaf",
    "make_on_gpu",
    "make_typed",
    "make_untyped",
    "reduce_tensor",
    "reduce_typed",
    "reduce_untyped",
]


def reduce_tensor(tensor: Any) -> Any:
    """Reduce a tensor, a parameter or a tensor of another class as torch does."""
    reduced = tensor.__reduce_ex__(5)
    if type(reduced) is not tuple:
        return reduced
    make, args = reduced[:2]
    if getattr(make, "__name__", "") != "_rebuild_from_type_v2":
        return (*_with_dtype(make, args), *reduced[2:])
    inner, kind, inside, *rest = args
    inner, inside = _with_dtype(inner, inside)
    return (make, (inner, kind, inside, *rest), *reduced[2:])


def _with_dtype(make: Any, args: Any) -> tuple[Any, Any]:
    """Return what torch can rebuild.

    torch 2.13 reduces newer dtypes, such as uint16 and float8, to a storage without a dtype. It
    rebuilds them from one that has a dtype, and not if they require a gradient.
    """
    if not args or type(args[0]) is not _torch().UntypedStorage:
        return make, args
    storage, offset, size, stride, requires_grad, *rest = args
    args = (make_typed(storage, _torch().uint8), offset, size, stride, False, *rest)
    return (make_leaf, (make, args)) if requires_grad else (make, args)


def make_leaf(make: Any, args: tuple[Any, ...]) -> Any:
    """Return a tensor that requires a gradient."""
    return make(*args).requires_grad_()


def _torch() -> Any:
    return importlib.import_module("torch")


def reduce_typed(storage: Any) -> Any:
    """Reduce a storage that has a dtype. torch makes one for each tensor that it pickles."""
    if type(storage) is not _torch().storage.TypedStorage:
        return storage.__reduce_ex__(5)
    return make_typed, (storage._untyped_storage, storage.dtype)


def make_typed(untyped: Any, dtype: Any) -> Any:
    """Return a storage of ``dtype`` over the memory of another one."""
    kind: Any = _torch().storage.TypedStorage
    return kind(wrap_storage=untyped, dtype=dtype, _internal=True)


def reduce_untyped(storage: Any) -> Any:
    """Reduce a storage of bytes to its memory. One of another device is copied to the host."""
    device = storage.device
    if device.type == "cuda":
        _warn_of_copy()
        return make_on_gpu, (storage.cpu(), str(device))
    if device.type != "cpu":
        return storage.__reduce_ex__(5)
    size = storage.nbytes()
    if not size:
        return make_untyped, (b"",)
    memory: Any = (ctypes.c_char * size).from_address(storage.data_ptr())
    memory.storage = storage  # the memory lives as long as this array
    return make_untyped, (pickle.PickleBuffer(memory),)


def make_untyped(memory: Any) -> Any:
    """Return a storage over memory that arrived. It keeps that memory alive."""
    if not len(memory):
        return _torch().empty(0, dtype=_torch().uint8).untyped_storage()
    return _torch().frombuffer(memory, dtype=_torch().uint8).untyped_storage()


def make_on_gpu(storage: Any, device: str) -> Any:
    """Return a copy of a storage on a GPU. Raises RuntimeError where there is no such GPU."""
    torch = _torch()
    index = torch.device(device).index or 0
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise RuntimeError(
            f"a tensor of device {device} arrived where torch finds {count} GPUs. "
            "Fix: send tensor.cpu(), or give the class a GPU with gpu="
        )
    return storage.cuda(index)


@functools.cache
def _warn_of_copy() -> None:
    import warnings

    warnings.warn(
        "a CUDA tensor is sent through the host's memory: it is copied from the GPU, and to the "
        "GPU again where it arrives. This warning appears once",
        stacklevel=2,
    )
