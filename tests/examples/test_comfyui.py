"""The ComfyUI nodes, against stand-ins of ComfyUI's interface and with the real bundled model."""

import asyncio
import gc
import json
import subprocess
import sys
import tomllib
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from support.comfy_stubs import NODES, ComfyStubs, Interrupted

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.pipelines.loading import BUNDLED

SAMPLES = BUNDLED / "samples"
DEFAULTS = {
    "garment_photo": "flat-lay",
    "quality": "balanced",
    "detail": -1.0,
    "seed": 5,
    "steps": 0,
    "guidance_scale": 1.0,
    "unload": False,
}


@pytest.fixture
def comfy(tmp_path):
    return ComfyStubs(tmp_path)


@pytest.fixture
def nodes(comfy, monkeypatch):
    listed = asyncio.run(asyncio.run(comfy.load(monkeypatch).comfy_entrypoint()).get_node_list())
    return {node.define_schema().node_id.removeprefix("StableVITON_"): node for node in listed}


@pytest.fixture
def model(nodes):
    return nodes["LoadModel"].execute("bundled", "auto").values[0]


def sample(*names):
    arrays = [np.asarray(Image.open(SAMPLES / f"{name}.png").convert("RGB")) for name in names]
    return torch.from_numpy(np.stack(arrays)).float() / 255


def bytes_of(batch):
    return (batch * 255).round().byte().numpy()


def expected(person, garment, seed, **options):
    options["generator"] = torch.Generator().manual_seed(seed)
    paths = [SAMPLES / f"{name}.png" for name in (person, garment)]
    return np.asarray(TryOnPipeline.from_bundled()(*paths, quality="balanced", **options).images[0])


def test_the_nodes_image_is_the_pipelines(nodes, model):
    person, mask, agnostic, densepose = nodes["PreparePerson"].execute(model, sample("person_1"), "upper").values
    assert mask.shape == (1, 256, 192)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert agnostic.shape == densepose.shape == (1, 256, 192, 3)
    images, _ = nodes["TryOn"].execute(model, person, sample("garment_2"), **DEFAULTS).values
    assert (bytes_of(images)[0] == expected("person_1", "garment_2", 5)).all()


def test_a_batch_of_garments_is_tried_on_one_person_with_a_seed_each(nodes, model):
    person = nodes["PreparePerson"].execute(model, sample("person_1"), "upper").values[0]
    garments = sample("garment_1", "garment_2")
    images, attention = nodes["TryOn"].execute(model, person, garments, **DEFAULTS).values
    assert images.shape == (2, 256, 192, 3)
    alone = expected("person_1", "garment_2", 6).astype(int)
    assert np.abs(bytes_of(images)[1] - alone).max() <= 2  # a batch rounds otherwise
    values = nodes["Correspondence"].execute(attention, 1, 110, 140).values
    assert values[0].shape[-1] == values[1].shape[-1] == 3
    assert values[2].shape == (1, 256, 192)
    assert 0 <= values[3] < 192
    assert 0 <= values[5] <= 1


def test_a_mask_that_is_passed_on_decides_what_is_repainted(nodes, model):
    person, mask, *_ = nodes["PreparePerson"].execute(model, sample("person_1"), "upper").values
    smaller = mask.clone()
    smaller[:, 150:] = 0
    images, _ = nodes["TryOn"].execute(model, person, sample("garment_2"), **DEFAULTS, mask=smaller).values
    photo = sample("person_1")
    assert torch.equal(images[:, 150:], photo[:, 150:])
    assert not torch.equal(images[:, 100:150], photo[:, 100:150])


def test_counts_that_do_not_match_are_refused(nodes, model):
    person = nodes["PreparePerson"].execute(model, sample("person_1", "person_2"), "upper").values[0]
    garments = sample("garment_1", "garment_2", "garment_1")
    with pytest.raises(ValueError, match="person has 2 entries for 3 images"):
        nodes["TryOn"].execute(model, person, garments, **DEFAULTS)


def test_every_step_is_reported_with_a_preview_and_may_end_the_run(nodes, model, comfy):
    person = nodes["PreparePerson"].execute(model, sample("person_1"), "upper").values[0]
    options = {**DEFAULTS, "quality": "exact", "steps": 4}
    nodes["TryOn"].execute(model, person, sample("garment_1"), **options)
    assert [(node, step, steps) for node, step, steps, _ in comfy.progress] == [("7", n, 4) for n in (1, 2, 3, 4)]
    assert isinstance(comfy.progress[0][3][1], Image.Image)
    comfy.progress.clear()
    comfy.interrupt_after = 2
    with pytest.raises(Interrupted):
        nodes["TryOn"].execute(model, person, sample("garment_1"), **options)
    assert len(comfy.progress) == 2


def test_a_model_is_unloaded_when_told_and_read_again_when_needed(nodes, model, comfy):
    person = nodes["PreparePerson"].execute(model, sample("person_1"), "upper").values[0]
    unet = weakref.ref(model.pipeline().unet)
    assert comfy.freed[0] > sum(tensor.nbytes for tensor in unet().parameters())  # room was made
    first, _ = nodes["TryOn"].execute(model, person, sample("garment_1"), **{**DEFAULTS, "unload": True}).values
    gc.collect()
    assert unet() is None
    assert comfy.emptied == 1
    again, _ = nodes["TryOn"].execute(model, person, sample("garment_1"), **DEFAULTS).values
    assert torch.equal(first, again)


def test_models_are_those_of_comfyuis_folder(nodes, comfy, tmp_path):
    TryOnPipeline.from_bundled().save_pretrained(tmp_path / "stableviton" / "mine")
    (tmp_path / "stableviton" / "VITONHD.ckpt").touch()
    (tmp_path / "stableviton" / "notes.txt").touch()
    choice = nodes["LoadModel"].define_schema().inputs[0]
    assert choice.options["options"] == ["bundled", "VITONHD.ckpt", "mine"]
    assert nodes["LoadModel"].execute("mine", "fp32").values[0].pipeline().unet.dtype == torch.float32
    with pytest.raises(FileNotFoundError, match="choose another model"):
        nodes["LoadModel"].execute("../secret", "auto").values[0].pipeline()


def test_comfyui_starts_without_the_package():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import pytest; from support.comfy_stubs import ComfyStubs\n"
        "with pytest.MonkeyPatch.context() as patch: ComfyStubs('models').load(patch)\n"
        "assert not {'torch', 'diffusers', 'stableviton_sdk'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=NODES.parents[1], check=True, timeout=60)


def test_the_registrys_description_pins_nothing_of_comfyuis(nodes):
    described = tomllib.loads((NODES / "pyproject.toml").read_text())
    assert described["project"]["dependencies"] == ["stableviton-sdk"]
    assert "comfyui" not in described["project"]["name"].lower()
    assert described["tool"]["comfy"]["DisplayName"]


def test_the_example_workflow_fits_the_nodes(nodes):
    workflow = json.loads((NODES / "example_workflows" / "try_on.json").read_text())
    schemas = {node.define_schema().node_id: node.define_schema() for node in nodes.values()}
    used = set()
    for entry in workflow["nodes"]:
        schema = schemas.get(entry["type"])
        if schema is None:
            assert entry["type"] in ("LoadImage", "SaveImage", "PreviewImage")
            continue
        used.add(entry["type"])
        ids = {port.id for port in schema.inputs}
        assert {port["name"] for port in entry["inputs"]} <= ids
        widgets = [port for port in schema.inputs if "default" in port.options]
        extra = sum("control_after_generate" in port.options for port in widgets)
        assert len(entry["widgets_values"]) == len(widgets) + extra
        assert [port["name"] for port in entry["outputs"]] == [port.options["display_name"] for port in schema.outputs]
    assert used == set(schemas)
