"""Read a pickle of numpy arrays without running anything in it."""

from __future__ import annotations

import pickletools
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ...errors import IncompatibleCheckpoint

MAX_INSTRUCTIONS = 1_000_000  # the released file needs some ten thousand
MAX_LINE = 4096  # bytes of a global's module or name

_GLOBALS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),  # before numpy 2
    ("numpy._core.multiarray", "_reconstruct"),
}
_NUMBERS = ("f2", "f4", "f8", "i4", "i8")
# fmt: off
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}
# fmt: on
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(stream: BinaryIO, size: int) -> Any:
    """Read a pickle (protocol 2 to 5) of dicts, lists, tuples, numbers, strings and numpy arrays.

    Nothing is ever imported or called: the few instructions that such a pickle consists of are interpreted here, all
    others are refused. Python 2's strings are read as latin-1, which is how it stored the bytes of arrays.

    Args:
        stream (`BinaryIO`): The file, at its start.
        size (`int`): Its length in bytes; no read asks for more.

    Returns:
        The pickled object; its arrays are read-only views of the bytes read.

    Raises:
        `IncompatibleCheckpoint`: for a damaged file, and for one that holds anything else.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(_BoundedReader(stream, size))):
            if count > MAX_INSTRUCTIONS:
                raise IncompatibleCheckpoint("the pickle holds far more than a model: pass the released file.")
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        if isinstance(error, IncompatibleCheckpoint):
            raise
        raise IncompatibleCheckpoint(f"the pickle is damaged ({error}): download it again.") from error
    return value.values if isinstance(value, _Array) else value


class _BoundedReader:
    """A file that is never asked for more than it has, so that a damaged length can't exhaust the memory."""

    def __init__(self, stream: BinaryIO, size: int):
        self.stream, self.size, self.tell = stream, size, stream.tell

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.size - self.tell():
            raise ValueError("it ends too early")
        return self.stream.read(count)

    def readline(self) -> bytes:
        return self.stream.readline(MAX_LINE)


class _Global(NamedTuple):
    """Something that the pickle would import. Here it is a name and nothing more."""

    module: str
    name: str


class _Dtype:
    """`numpy.dtype`: made of a code such as "f4", told its byte order later."""

    def __init__(self, code: Any):
        if code not in _NUMBERS:
            raise IncompatibleCheckpoint(f"the pickle has an array of type {code!r}, not of numbers: refused.")
        self.value = np.dtype(code)

    def fill(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("unknown byte order")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """`numpy.ndarray`: made empty, filled later."""

    values: np.ndarray | None = None

    def fill(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not isinstance(data, (bytes, str)):
            raise IncompatibleCheckpoint("the pickle has an array of something other than numbers: refused.")
        if any(type(side) is not int or side < 0 for side in shape):  # -1 would mean "whatever fits"
            raise ValueError("an array has an impossible shape")
        data = data.encode("latin-1") if isinstance(data, str) else data
        self.values = np.frombuffer(data, dtype.value).reshape(shape, order="F" if is_fortran else "C")


class _Machine:
    def __init__(self):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack.append(tuple(self.pop(_TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self.pop_to_mark()))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("SETITEM", "SETITEMS"):
            self.set_items(self.pop(2) if name == "SETITEM" else self.pop_to_mark())
        elif name in ("APPEND", "APPENDS"):
            self.append(self.pop(1) if name == "APPEND" else self.pop_to_mark())
        elif name == "GLOBAL":
            stack.append(self.named(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(self.named(*self.pop(2)))
        elif name == "REDUCE":
            stack.append(self.make(*self.pop(2)))
        elif name == "BUILD":
            record, state = self.pop(2)
            if not isinstance(record, (_Array, _Dtype)):
                raise IncompatibleCheckpoint("the pickle builds something other than numpy arrays: refused.")
            record.fill(state)
            stack.append(record)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise IncompatibleCheckpoint(f"the pickle holds more than arrays (instruction {name}): refused.")

    def pop(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("a value is missing")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_to_mark(self) -> list[Any]:
        return self.pop(len(self.stack) - self.marks.pop())

    def set_items(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if not isinstance(target, dict) or not all(isinstance(key, str) for key in keys):
            raise IncompatibleCheckpoint("the pickle has a mapping that isn't by name: refused.")
        values = (value.values if isinstance(value, _Array) else value for value in items[1::2])
        target.update(zip(keys, values, strict=True))

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("a list is missing")
        self.stack[-1].extend(value.values if isinstance(value, _Array) else value for value in items)

    @staticmethod
    def named(module: Any, name: Any) -> _Global:
        if (module, name) not in _GLOBALS:
            raise IncompatibleCheckpoint(
                f"the pickle asks for {module}.{name}, which no array needs: refused, the file may be malicious."
            )
        return _Global(module, name)

    @staticmethod
    def make(function: Any, arguments: Any) -> _Array | _Dtype:
        if isinstance(function, _Global) and function.name == "_reconstruct":
            return _Array()
        if isinstance(function, _Global) and function.name == "dtype":
            return _Dtype(arguments[0])
        raise IncompatibleCheckpoint("the pickle calls something other than numpy's arrays and types: refused.")
