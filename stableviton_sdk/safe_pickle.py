"""Reading pickles of arrays and of tensors without importing or running anything that they name."""

from __future__ import annotations

import pickle
import types
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from .errors import IncompatibleCheckpoint

MAX_READS = 3_000_000  # of the file, one to three for each instruction; the released file needs some ten thousand
MAX_LINE = 4096  # bytes of a global's module or name
NUMBERS = ("f2", "f4", "f8", "i4", "i8")

# The instructions that dicts, lists, tuples, numbers, strings and arrays are pickled as, in protocols 2 to 5.
# fmt: off
INSTRUCTIONS = (
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    pickle.BINGET, pickle.LONG_BINGET, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1,
    pickle.BININT2, pickle.LONG1, pickle.LONG4, pickle.BINFLOAT, pickle.BINSTRING, pickle.SHORT_BINSTRING,
    pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.BINBYTES, pickle.SHORT_BINBYTES,
    pickle.BINBYTES8, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE,
    pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS,
    pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD,
)
# fmt: on


def read_arrays(stream: BinaryIO, size: int) -> Any:
    """Content of a pickle (protocol 2 to 5) of dicts, lists, tuples, numbers, strings and numpy arrays.

    Nothing is ever imported, and nothing called but the two classes below. Python 2's strings are read as latin-1,
    which is how it stored the bytes of arrays.

    Args:
        stream (`BinaryIO`): The file, at its start.
        size (`int`): Length of the file in bytes; no read asks for more.

    Returns:
        The pickled object; arrays in dicts are read-only views of the bytes read.

    Raises:
        `IncompatibleCheckpoint`: for a damaged file, and for one that holds anything else.
    """
    try:
        unpickler = _ArrayUnpickler(_BoundedReader(stream, size), encoding="latin1")
        content = _with_arrays(unpickler.load())
        if unpickler.stack:
            raise ValueError("it holds more than one object")
        return content
    except IncompatibleCheckpoint:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are instructions
        raise IncompatibleCheckpoint(f"the pickle is damaged ({error}): download it again.") from error


class _BoundedReader:
    """A file from which no more is read than it has, so that a damaged length can't exhaust the memory."""

    def __init__(self, stream: BinaryIO, size: int):
        self.stream, self.left, self.reads = stream, size, 0

    def read(self, count: int) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise IncompatibleCheckpoint("the pickle holds far more than a model: pass the released file.")
        if not 0 <= count <= self.left:
            raise ValueError("it ends too early")
        self.left -= count
        return self.stream.read(count)

    def readline(self) -> bytes:
        line = self.stream.readline(MAX_LINE)
        self.left -= len(line)
        return line


class _ArrayUnpickler(pickle._Unpickler):
    """The standard library's unpickler, restricted to what arrays need.

    It is the one in Python: the one in C allocates memory for whatever index a file names, gigabytes at a time.
    """

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in INSTRUCTIONS}

    def load_frame(self) -> None:
        """Skip a frame's length: frames are read piece by piece, so that every read is counted."""
        self.read(8)

    dispatch[pickle.FRAME[0]] = load_frame

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("numpy", "ndarray"): None,  # the argument of _reconstruct
            ("numpy", "dtype"): _Dtype,
            ("numpy.core.multiarray", "_reconstruct"): _Array,  # before numpy 2
            ("numpy._core.multiarray", "_reconstruct"): _Array,
        }
        if (module, name) not in known:
            raise IncompatibleCheckpoint(
                f"the pickle asks for {module}.{name}, which no array needs: refused, the file may be malicious."
            )
        return known[module, name]


class _Dtype:
    """Stands for `numpy.dtype`: made of a code such as "f4", then given its byte order."""

    def __init__(self, code: Any, *_: Any):
        if code not in NUMBERS:
            raise IncompatibleCheckpoint(f"the pickle has an array of type {code!r}, not of numbers: refused.")
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("unknown byte order")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands for `numpy.ndarray`: made empty, then given its values."""

    def __init__(self, *_: Any):
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not isinstance(data, (bytes, str)):
            raise IncompatibleCheckpoint("the pickle has an array of something other than numbers: refused.")
        if any(type(side) is not int or side < 0 for side in shape):  # -1 would mean "whatever fits"
            raise ValueError("an array has an impossible shape")
        data = data.encode("latin-1") if isinstance(data, str) else data
        self.values = np.frombuffer(data, dtype.value).reshape(shape, order="F" if is_fortran else "C")


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_arrays(entry) for name, entry in value.items()}
    return value.values if isinstance(value, _Array) else value


class Placeholder:
    """Stands where a checkpoint names an object that isn't a tensor: it takes anything and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        """Drop the arguments that the object was built from."""

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        return self

    def __setstate__(self, state: Any) -> None:
        """Drop the object's state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop an entry of a mapping or sequence."""

    def append(self, value: Any) -> None:
        """Drop an entry."""

    def extend(self, values: Any) -> None:
        """Drop an entry."""

    def add(self, value: Any) -> None:
        """Drop an entry."""


class _TensorUnpickler(pickle._Unpickler):
    """The standard library's unpickler, which finds nothing but what tensors are built of.

    All else that a checkpoint names becomes a `Placeholder`.
    """

    def find_class(self, module: str, name: str) -> Any:
        import torch

        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
            ("torch", "Size"): torch.Size,
            ("torch", "device"): torch.device,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name.rpartition(".")[2] or "Placeholder", (Placeholder,), {"__module__": f"inert.{module}"})


def inert_pickle() -> types.ModuleType:
    """The part of the pickle module that `torch.load` uses, with an unpickler that builds tensors only."""
    module = types.ModuleType("inert_pickle")
    module.Unpickler = _TensorUnpickler
    module.load = lambda file, **options: _TensorUnpickler(file, **options).load()
    return module
