import pytest
import torch
from support.sentences import sentence

from stableviton_sdk.dtypes import DTYPES, resolve_dtype
from stableviton_sdk.errors import InvalidInput


def test_a_number_type_goes_by_torchs_names_and_short_ones():
    for name, expected in (
        ("fp16", torch.float16),
        ("float16", torch.float16),
        ("torch.float16", torch.float16),
        ("bf16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("fp32", torch.float32),
        ("float32", torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (None, None),
    ):
        assert resolve_dtype(name) is expected


@pytest.mark.parametrize("dtype", ["half", "int8", "", torch.int8, torch.float64, 16, {"unet": "fp16"}])
def test_another_number_type_is_refused(dtype):
    with pytest.raises(InvalidInput) as error:
        resolve_dtype(dtype)
    assert "pass one of fp32, fp16, bf16" in sentence(error)


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ({"avx2": True}, torch.float32),
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True}, torch.bfloat16),
    ],
)
def test_auto_is_bf16_on_a_cpu_that_has_the_instructions(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_dtype("auto", "cpu") is expected


@pytest.mark.parametrize(
    "capability, expected", [((5, 2), torch.float32), ((6, 0), torch.float16), ((9, 0), torch.float16)]
)
def test_auto_is_fp16_on_a_gpu_that_computes_it(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_dtype("auto", "cuda:0") is expected


def test_auto_for_no_device_is_that_of_the_best_one():
    assert resolve_dtype("auto") in DTYPES.values()
