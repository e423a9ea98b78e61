"""Pickled weights of others: arrays are read, whatever wrote them; nothing else is, and nothing runs."""

import io
import os
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stableviton_sdk.errors import IncompatibleCheckpoint, WeightsUnavailable
from stableviton_sdk.preprocessing.densepose import load_network
from stableviton_sdk.preprocessing.densepose.weights import read_checkpoint
from stableviton_sdk.safe_pickle import read_arrays

LAYOUT = {"a.weight": (2, 3), "b.bias": (4,)}


def small_model(**changes):
    return {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b.bias": np.zeros(4, np.float32), **changes}


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def read(data: bytes):
    return read_arrays(io.BytesIO(data), len(data))


@pytest.mark.parametrize(
    "changes, name",
    [
        ({"b.bias": np.zeros(5, np.float32)}, r"b\.bias of shape \(5,\) instead of \(4,\)"),
        ({"b.bias": np.zeros(4, np.int64)}, r"b\.bias as int64"),
        ({"b.bias": "text"}, r"b\.bias as str"),
        ({"extra": np.zeros(4, np.float32)}, "unknown tensor extra"),
        ({"pixel_mean": np.array([123.675, 116.28, 103.53], np.float32)}, "another pixel_mean"),
    ],
)
def test_a_foreign_tensor_is_named(tmp_path, changes, name):
    with pytest.raises(IncompatibleCheckpoint, match=name):
        read_checkpoint(written(tmp_path / "model.pkl", {"model": small_model(**changes)}), LAYOUT)


def test_a_missing_tensor_is_named(tmp_path):
    model = small_model()
    del model["b.bias"]
    save_file({name: torch.from_numpy(value) for name, value in model.items()}, tmp_path / "model.safetensors")
    for path in (written(tmp_path / "model.pkl", {"model": model}), tmp_path / "model.safetensors"):
        with pytest.raises(IncompatibleCheckpoint, match=r"lacks the tensor b\.bias"):
            read_checkpoint(path, LAYOUT)


def test_settings_stored_as_tensors_are_checked_and_left_out(tmp_path):
    square = np.array([[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])  # 32 pixels, three shapes
    exact = 8 * np.array([[-8, -4, 8, 4], [-(32**0.5), -(32**0.5), 32**0.5, 32**0.5], [-4, -8, 4, 8]]) / 8**0.5
    assert np.abs(exact - square).max() < 0.7
    settings = {
        "pixel_mean": np.array([103.53, 116.28, 123.675], np.float32).reshape(3, 1, 1),
        "pixel_std": np.ones((3, 1, 1), np.float32),
        "proposal_generator.anchor_generator.cell_anchors.0": exact.astype(np.float32),
    }
    tensors = read_checkpoint(written(tmp_path / "model.pkl", {"model": small_model(**settings)}), LAYOUT)
    assert list(tensors) == list(LAYOUT)


def test_arrays_of_any_float_type_and_order_are_read(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    for stored in (values, values.astype(">f4"), values.astype(np.float16), np.asfortranarray(values)):
        for protocol in (3, 4):
            content = {"model": small_model(**{"a.weight": stored})}
            tensors = read_checkpoint(written(tmp_path / "model.pkl", content, protocol), LAYOUT)
            assert tensors["a.weight"].dtype == torch.float32
            assert torch.equal(tensors["a.weight"], torch.from_numpy(values).float())


def python2_array(module: bytes, values: np.ndarray) -> bytes:
    """A pickle of {"x": values} as Python 2 wrote it: strings for bytes."""
    data = values.astype("<f4").tobytes()
    shape = b"".join(b"K" + bytes([side]) for side in values.shape)
    return (
        b"\x80\x02}q\x00U\x01xc" + module + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01("
        + shape
        + b"tcnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(data)) + data + b"tbs."
    )


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_python2_strings_are_read_as_latin1_under_both_names_of_numpy(module):
    values = np.array([[1.5, -2.0, 3e30], [0.1, 7.0, -1e-9]], np.float32)  # bytes above 127 among them
    assert np.array_equal(read(python2_array(module, values))["x"], values)


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda marker: Call(os.mkdir, str(marker)),
        lambda marker: Call(eval, f"__import__('os').mkdir({str(marker)!r})"),
        lambda marker: Call(getattr, "text", "upper"),
        lambda marker: Call(np.load, str(marker)),
        lambda marker: np.array([Call(os.mkdir, str(marker))], dtype=object),
        lambda marker: np.array(["text"]),
        lambda marker: SimpleNamespace(a=1),
        lambda marker: {1, 2},
        lambda marker: {1: "not by name"},
        lambda marker: np.dtype,
        lambda marker: bytearray(8),
        lambda marker: torch.zeros(2),
    ],
)
def test_a_pickle_of_anything_but_arrays_is_refused_and_nothing_runs(tmp_path, make, protocol):
    marker = tmp_path / "ran"
    content = {"model": small_model(**{"a.weight": make(marker)})}
    with pytest.raises(IncompatibleCheckpoint):
        read_checkpoint(written(tmp_path / "model.pkl", content, protocol), LAYOUT)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04cnumpy\nndarray\n}U\x01aK\x01sb.",  # sets attributes of a name
        b"\x80\x04cnumpy\ndtype\n}U\x01aK\x01sb.",
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\nN}U\x01aK\x01s\x86b.",
        b"\x80\x04cnumpy\ndtype\n)R.",  # too few arguments
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n)R(K\x01)NK\x00C\x00tb.",  # no dtype
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",  # claims four exabytes
        b"\x80\x04)r" + struct.pack("<I", 2**32 - 1) + b"00.",
        b"\x80\x04" + b"(" * 1_100_000 + b".",
        b"\x80\x04h\x05.",  # recalls what was never stored
        b"\x80\x04t.",
        b"\x80\x04}}.",
        b"\x80\x04(K\x01tK\x02a.",
        b"\x80\x04" + b"c" + b"a" * 10_000 + b"\nb\n.",
        b"\x80\x04",
        b"",
    ],
)
def test_a_malformed_pickle_is_refused(data):
    with pytest.raises(IncompatibleCheckpoint):
        read(data)


def test_a_damaged_pickle_is_refused_wherever_it_is_cut(tmp_path):
    whole = pickle.dumps({"model": small_model()}, 4)
    for length in range(len(whole)):
        with pytest.raises(IncompatibleCheckpoint):
            read_checkpoint(_bytes_file(tmp_path, whole[:length]), LAYOUT)


def test_a_pickle_with_flipped_bytes_is_read_or_refused_but_never_more():
    whole = pickle.dumps({"model": small_model()}, 4)
    generator = np.random.default_rng(5)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] = generator.integers(0, 256)
        try:
            read(bytes(damaged))
        except IncompatibleCheckpoint:
            refused += 1
    assert refused > 1000


def _bytes_file(folder, data):
    path = folder / "model.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "neither"),
        (b"<html>not found</html>", "neither"),
        (b"PK\x03\x04" + bytes(30), "neither"),
        (struct.pack("<Q", 12) + b"{" + b"x" * 40, "damaged"),
        (pickle.dumps([1, 2], 4), "model"),
        (pickle.dumps({"weights": {}}, 4), "model"),
        (pickle.dumps({"model": {}}, 4), r"lacks the tensor a\.weight"),
    ],
)
def test_other_files_are_refused(tmp_path, data, words):
    with pytest.raises(IncompatibleCheckpoint, match=words):
        read_checkpoint(_bytes_file(tmp_path, data), LAYOUT)


def test_an_oversized_file_is_refused_unread(tmp_path):
    path = tmp_path / "model.pkl"
    with path.open("wb") as stream:
        stream.truncate(2**31 + 1)  # sparse
    with pytest.raises(IncompatibleCheckpoint, match=r"2\.0 GiB"):
        read_checkpoint(path, LAYOUT)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(WeightsUnavailable, match="there is no file"):
        load_network(tmp_path / "nothing.pkl")
