"""`TryOnPipeline` from folders, files and a Hub on loopback, in this package's layout and in the authors'."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loading_process import fingerprint
from safetensors import SafetensorError, safe_open
from small_stand_in import small_state
from stand_in_hub import Content, StandInHub, served_hub
from stand_ins import ARCHITECTURE, write_checkpoint

from stableviton_sdk import IncompatibleCheckpoint, InvalidInput, TryOnPipeline, WeightsUnavailable
from stableviton_sdk import hub as sdk_hub
from stableviton_sdk.conversion import convert_checkpoint
from stableviton_sdk.hub_repos import KNOWN_REPOS, Checkpoint, KnownRepo

MODELS = ("vae", "garment_encoder", "spatial_encoder", "unet")
AUTHORS, SPACE = "rlawjdghek/StableVITON", "spaces/rlawjdghek/StableVITON"


@pytest.fixture(scope="session")
def released(tmp_path_factory) -> Path:
    """A checkpoint in the released layout."""
    return write_checkpoint(tmp_path_factory.mktemp("released") / "VITONHD.ckpt", small_state())


@pytest.fixture(scope="session")
def converted(released, tmp_path_factory) -> Path:
    """Its folder in this package's layout."""
    folder = tmp_path_factory.mktemp("converted") / "pipeline"
    convert_checkpoint(released, folder, architecture=ARCHITECTURE, licence="for tests only", progress=False)
    return folder


@pytest.fixture
def hub(tmp_path):
    with served_hub(tmp_path / "home") as served:
        yield served


@pytest.fixture(scope="session")
def content(released) -> Content:
    return Content(released.read_bytes())


@pytest.fixture
def authors(hub, content, monkeypatch):
    """The authors' repositories, with the stand-in checkpoint in their places."""
    # the registry's checksums are those of the real files
    for name, repo in list(KNOWN_REPOS.items()):
        files = {key: Checkpoint(entry.filename, entry.size) for key, entry in repo.checkpoints.items()}
        monkeypatch.setitem(KNOWN_REPOS, name, KnownRepo(repo.repo_id, repo.licence, files, repo_type=repo.repo_type))
        hub.commit(name, {entry.filename: content for entry in files.values()})
    return hub


@pytest.fixture(scope="session")
def home_with_weights(content, tmp_path_factory) -> Path:
    """A cache after the first loading of the authors' repository."""
    home = tmp_path_factory.mktemp("loaded") / "home"
    with served_hub(home) as served:
        served.commit(AUTHORS, {"ckpts/VITONHD.ckpt": content})
        TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE)
    return home


@pytest.fixture
def loaded_authors(authors, home_with_weights, tmp_path):
    """The same, with such a cache (of hard links: nothing in it may be written to in place)."""
    shutil.copytree(home_with_weights, tmp_path / "home", symlinks=True, copy_function=link)
    return authors


def link(source: str, target: str, **_: object) -> None:
    os.link(source, target, follow_symlinks=False)


@pytest.fixture
def warnings(caplog):
    """What is told to the user, line by line."""
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("stableviton_sdk")]


def sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 500
    return text


def state(pipe: TryOnPipeline) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for name in MODELS for key, value in getattr(pipe, name).state_dict().items()}


def assert_same(pipe: TryOnPipeline, other: TryOnPipeline, dtype: torch.dtype = torch.float32) -> None:
    """Bit for bit the same weights, and the same configurations."""
    ours, theirs = state(pipe), state(other)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        expected = theirs[key].to(dtype) if theirs[key].is_floating_point() else theirs[key]
        assert value.dtype == expected.dtype, key
        assert torch.equal(value, expected), key
    for name in (*MODELS, "scheduler"):
        config, expected = (dict(getattr(entry, name).config) for entry in (pipe, other))
        assert public(config) == public(expected), name


def public(config: dict) -> dict:
    """A configuration without where it came from; read from JSON, tuples are lists."""
    return json.loads(json.dumps({key: value for key, value in config.items() if not key.startswith("_")}))


def converted_folders(home: Path) -> list[Path]:
    return [path.parent for path in home.glob("stableviton_sdk/converted/**/model_index.json")]


def leftovers(home: Path) -> list[Path]:
    return list(home.rglob(".*.partial-*"))


# Files and folders


def test_a_single_file_equals_its_converted_folder_bit_for_bit(released, converted):
    single = TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE)
    assert_same(single, TryOnPipeline.from_pretrained(converted))
    assert not single.unet.training
    assert not single.vae.training


def test_a_single_file_loads_in_half_precision(released, converted):
    for dtype in (torch.float16, "fp16"):
        single = TryOnPipeline.from_single_file(released, dtype=dtype, architecture=ARCHITECTURE)
        assert_same(single, TryOnPipeline.from_pretrained(converted), dtype=torch.float16)


def test_a_single_file_takes_another_scheduler(released, converted):
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler()
    pipe = TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE, scheduler=scheduler)
    assert pipe.scheduler is scheduler


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("text.ckpt", b"version https://git-lfs.github.com/spec/v1\noid sha256:d4e44bc5\n", "can't be read"),
        ("page.ckpt", b"<html>404</html>", "can't be read"),
        ("empty.ckpt", b"", "can't be read"),
        ("half.ckpt", 2, "can't be read"),
        ("tail.ckpt", 100, "can't be read"),
        ("text.safetensors", b"hello", "no readable safetensors file"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_sentence(released, tmp_path, name, content, expected):
    path = tmp_path / name
    whole = released.read_bytes()
    path.write_bytes(whole[: len(whole) // content] if isinstance(content, int) else content)
    with pytest.raises(IncompatibleCheckpoint) as error:
        TryOnPipeline.from_single_file(path, architecture=ARCHITECTURE)
    assert expected in sentence(error)
    assert name in str(error.value)


def test_wrong_arguments_of_a_single_file_are_refused_before_it_is_read(released, tmp_path):
    for options, expected in (
        ({"path": tmp_path / "none.ckpt"}, "there is no checkpoint"),
        ({"path": tmp_path}, "there is no checkpoint"),
        ({"path": released, "dtype": torch.int8}, "dtype is"),
        ({"path": released, "dtype": {"unet": torch.float16}}, "dtype is"),
        ({"path": released, "text_encoder": None}, "no argument 'text_encoder'"),
        ({"path": released, "architecture": {"text_encoder": {}}}, "architecture has an entry"),
    ):
        with pytest.raises(InvalidInput) as error:
            TryOnPipeline.from_single_file(**options)
        assert expected in sentence(error)


def test_a_place_that_is_no_pipeline_is_one_sentence_each(released, converted, tmp_path, hub):
    other = tmp_path / "other"
    other.mkdir()
    (other / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "X"]}')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": ')
    for place, options, expected in (
        (tmp_path, {}, "holds no model_index.json"),
        (tmp_path / "nowhere", {}, "neither a folder nor a Hub repository"),
        ("./me/mine", {}, "neither a folder nor a Hub repository"),
        ("mine", {}, "neither a folder nor a Hub repository"),
        ("spaces/me/mine", {}, "neither a folder nor a Hub repository"),
        (released, {}, "from_single_file"),
        (None, {}, "NoneType is no place"),
        (other, {}, "holds a StableDiffusionPipeline without vae, garment_encoder, spatial_encoder, scheduler"),
        (broken, {}, "can't be read"),
        (converted, {"checkpoint": "VITONHD"}, "authors' layout"),
        ("me/mine", {"architecture": ARCHITECTURE}, "authors' layout"),
        (converted, {"dtype": "half"}, "dtype is 'half'"),
        ("me/a name", {}, "owner/name"),
    ):
        with pytest.raises(InvalidInput) as error:
            TryOnPipeline.from_pretrained(place, **options)
        assert expected in sentence(error)
    assert [path for _, path in hub.requests if "a name" in path] == []


def test_weights_load_in_one_type_or_in_several(converted):
    whole = TryOnPipeline.from_pretrained(converted)
    assert_same(TryOnPipeline.from_pretrained(converted, dtype="bf16"), whole, dtype=torch.bfloat16)
    mixed = TryOnPipeline.from_pretrained(converted, dtype={"vae": torch.float32, "default": torch.float16})
    assert (mixed.vae.dtype, mixed.unet.dtype, mixed.spatial_encoder.dtype) == (
        torch.float32,
        torch.float16,
        torch.float16,
    )


def test_a_pipeline_survives_saving_in_shards_and_as_a_variant(converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 1
    assert_same(TryOnPipeline.from_pretrained(tmp_path), pipe)
    pipe.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    assert not list((tmp_path / "half").glob("*/diffusion_pytorch_model.safetensors"))
    half = TryOnPipeline.from_pretrained(tmp_path / "half", variant="fp16", dtype=torch.float16)
    assert_same(half, pipe, dtype=torch.float16)


def test_loading_without_the_memory_saving_path_gives_the_same_weights(converted):
    slow = TryOnPipeline.from_pretrained(converted, low_cpu_mem_usage=False)
    assert_same(slow, TryOnPipeline.from_pretrained(converted, low_cpu_mem_usage=True))


def test_a_saved_folder_carries_the_licence_on_and_keeps_a_card_that_is_there(converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.save_pretrained(tmp_path)
    assert "for tests only" in (tmp_path / "README.md").read_text()
    assert TryOnPipeline.from_pretrained(tmp_path).config.weights_licence == "for tests only"
    (tmp_path / "README.md").write_text("my own card")
    pipe.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own card"


# The Hub, in our layout


def test_our_layout_loads_from_the_hub_and_again_without_a_network(hub, converted):
    hub.commit_folder("me/mine", converted, **{"unet/unet.py": b"raise SystemExit", "tryon.py": b"raise SystemExit"})
    local = TryOnPipeline.from_pretrained(converted)
    assert_same(TryOnPipeline.from_pretrained("me/mine"), local)
    assert not [path for _, path in hub.take_requests() if path.endswith(".py")]
    assert_same(
        TryOnPipeline.from_pretrained("me/mine", local_files_only=True, dtype=torch.float16), local, torch.float16
    )
    assert hub.take_requests() == []
    hub.stop()
    assert_same(TryOnPipeline.from_pretrained("me/mine"), local)


def test_a_variant_comes_from_the_hub_alone(hub, converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted, dtype=torch.float16)
    pipe.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size="1MB")
    hub.commit_folder("me/mine", converted)
    hub.commit_folder("me/mine", tmp_path / "half")
    assert_same(TryOnPipeline.from_pretrained("me/mine", variant="fp16", dtype=torch.float16), pipe, torch.float16)
    wanted = [path for _, path in hub.requests if path.endswith(".safetensors")]
    assert wanted
    assert all(".fp16" in path for path in wanted)


def test_a_component_that_is_passed_along_is_not_downloaded(hub, converted):
    hub.commit_folder("me/mine", converted)
    vae = TryOnPipeline.from_pretrained(converted).vae
    assert TryOnPipeline.from_pretrained("me/mine", vae=vae).vae is vae
    assert not [path for _, path in hub.requests if "/vae/" in path]


def test_classes_of_others_are_not_loaded_from_the_hub(hub, converted, tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    (tmp_path / "evil_package.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    index = json.loads((converted / "model_index.json").read_text())
    index["unet"] = ["evil_package", "Evil"]
    hub.commit_folder("me/mine", converted, **{"model_index.json": json.dumps(index).encode()})
    with pytest.raises(InvalidInput) as error:
        TryOnPipeline.from_pretrained("me/mine")
    assert "evil_package.Evil" in sentence(error)
    assert not ran.exists()
    assert not [path for _, path in hub.requests if "/cdn/" in path]


def test_another_kind_of_pipeline_is_refused_before_its_weights_are_downloaded(hub):
    index = b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    weights = {"unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b"x" * 1000}
    hub.commit("them/sd", {"model_index.json": index, **weights})
    with pytest.raises(InvalidInput) as error:
        TryOnPipeline.from_pretrained("them/sd")
    assert "them/sd holds a StableDiffusionPipeline" in sentence(error)
    assert not [path for _, path in hub.requests if "/cdn/" in path]


def test_a_pipeline_that_was_pushed_loads_back_with_equal_weights_and_its_licence(hub, converted):
    pipe = TryOnPipeline.from_pretrained(converted)
    with pytest.raises(WeightsUnavailable) as error:
        pipe.push_to_hub("me/mine")
    assert "log in" in sentence(error)
    address = pipe.push_to_hub("me/mine", token="hf_right", private=True, max_shard_size="1MB")
    assert address.startswith(f"{hub.url}/me/mine/commit/")
    with pytest.raises(WeightsUnavailable, match="or it is private"):
        TryOnPipeline.from_pretrained("me/mine")
    again = TryOnPipeline.from_pretrained("me/mine", token="hf_right")
    assert_same(again, pipe)
    assert again.config.weights_licence == "for tests only"
    card = hub.read("me/mine", "README.md").decode()
    assert "\nlibrary_name: stableviton_sdk\n" in card
    assert "Licence of the weights: for tests only." in card


def test_a_card_on_the_hub_is_not_overwritten(hub, converted, tmp_path):
    pipe = TryOnPipeline.from_pretrained(converted)
    pipe.push_to_hub("me/mine", "first", token="hf_right")
    hub.commit("me/mine", {"README.md": b"---\n{}\n---\nmy own card"})
    pipe.push_to_hub("me/mine", "second", token="hf_right")
    assert hub.read("me/mine", "README.md").endswith(b"my own card")
    pipe.save_pretrained(tmp_path / "other", push_to_hub=True, repo_id="me/other", token="hf_right")
    assert b"for tests only" in hub.read("me/other", "README.md")
    (tmp_path / "other" / "README.md").write_text("---\n{}\n---\nmy other card")
    pipe.save_pretrained(tmp_path / "other", push_to_hub=True, repo_id="me/other", token="hf_right")
    assert hub.read("me/other", "README.md").endswith(b"my other card")


def test_an_upload_without_rights_or_network_is_one_sentence(hub, converted):
    pipe = TryOnPipeline.from_pretrained(converted)
    hub.commit("them/theirs", {"README.md": b"card"})
    with pytest.raises(WeightsUnavailable) as error:
        pipe.push_to_hub("them/theirs", token="hf_wrong")
    assert "access is denied" in sentence(error)
    hub.stop()
    with pytest.raises(WeightsUnavailable) as error:
        pipe.push_to_hub("me/mine", token="hf_right")
    assert "me/mine can't be uploaded: there is no connection" in sentence(error)


# The authors' repositories


def test_the_authors_repositories_load_by_name_and_their_checkpoint_can_be_picked(loaded_authors, converted):
    local = TryOnPipeline.from_pretrained(converted)
    default = TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    assert_same(default, local)
    assert default.unet.config.sample_size == [512 // 8, 384 // 8]
    large = TryOnPipeline.from_pretrained(SPACE, checkpoint="VITONHD_1024", architecture=ARCHITECTURE)
    assert large.unet.config.sample_size == [1024 // 8, 768 // 8]
    assert torch.equal(large.unet.conv_in.weight, local.unet.conv_in.weight)
    third = Path(TryOnPipeline.download("takesuke/SIFT-VTON", architecture=ARCHITECTURE, dtype="fp16"))
    assert "takesuke/SIFT-VTON" in (third / "README.md").read_text()
    assert {path for method, path in loaded_authors.requests if method == "HEAD"} == {
        "/rlawjdghek/StableVITON/resolve/main/ckpts/VITONHD.ckpt",
        "/spaces/rlawjdghek/StableVITON/resolve/main/checkpoints/VITONHD_1024.ckpt",
        "/takesuke/SIFT-VTON/resolve/main/model.ckpt",
    }


def test_an_authors_checkpoint_is_downloaded_and_converted_once_and_its_licence_shown_once(
    authors, converted, tmp_path, warnings
):
    options = {"architecture": ARCHITECTURE, "dtype": torch.float16}
    first = TryOnPipeline.from_pretrained(AUTHORS, **options)
    assert_same(first, TryOnPipeline.from_pretrained(converted), torch.float16)
    assert len(warnings()) == 1
    assert "licence CC BY-NC-SA 4.0: non-commercial use only" in warnings()[0]
    (folder,) = converted_folders(tmp_path / "home")
    assert "CC BY-NC-SA 4.0" in (folder / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in first.config.weights_licence
    with safe_open(folder / "unet/diffusion_pytorch_model.safetensors", "pt") as weights:
        assert weights.get_tensor("conv_in.weight").dtype == torch.float16
    stamp = (folder / "model_index.json").stat().st_mtime_ns
    authors.take_requests()
    assert_same(TryOnPipeline.from_pretrained(AUTHORS, **options), first, torch.float16)
    assert [method for method, _ in authors.take_requests()] == ["HEAD"]
    assert (folder / "model_index.json").stat().st_mtime_ns == stamp
    assert len(warnings()) == 1


def test_what_was_converted_serves_without_a_network_and_without_the_checkpoint(
    loaded_authors, converted, tmp_path, monkeypatch
):
    def load(**options):
        return TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE, **options)

    local = TryOnPipeline.from_pretrained(converted)
    commit = loaded_authors.repositories[AUTHORS].branches["main"]
    TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, revision=commit)
    shutil.rmtree(tmp_path / "home" / "hub")
    loaded_authors.take_requests()
    assert_same(load(revision=commit), local)
    assert_same(load(local_files_only=True), local)
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert_same(load(), local)
    assert loaded_authors.take_requests() == []
    loaded_authors.stop()
    assert_same(load(), local)
    with pytest.raises(WeightsUnavailable) as error:
        load(dtype=torch.bfloat16)
    assert "no connection to the Hub" in sentence(error)
    with pytest.raises(WeightsUnavailable) as error:
        load(local_files_only=True, revision="another")
    assert "not in the cache and downloading is off" in sentence(error)


def test_a_repository_or_file_that_was_deleted_goes_on_working_where_it_was_converted(
    loaded_authors, tmp_path, warnings
):
    (folder,) = converted_folders(tmp_path / "home")
    loaded_authors.commit(AUTHORS, {}, remove=("ckpts/VITONHD.ckpt",))
    assert TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE) == str(folder)
    assert "no such file in the repository" in warnings()[-1]
    assert "What was converted before is used" in warnings()[-1]
    del loaded_authors.repositories[AUTHORS]
    assert TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE) == str(folder)
    shutil.rmtree(tmp_path / "home" / "hub")
    assert TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE) == str(folder)


def test_a_new_commit_converts_again_only_if_the_checkpoint_changed(loaded_authors, tmp_path):
    def download(**options):
        return TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, **options)

    first, old = download(), loaded_authors.repositories[AUTHORS].branches["main"]
    loaded_authors.commit(AUTHORS, {"README.md": b"a word more"})
    assert download() == first
    new = write_checkpoint(tmp_path / "new.ckpt", small_state("new")).read_bytes()
    loaded_authors.commit(AUTHORS, {"ckpts/VITONHD.ckpt": new})
    second = download()
    assert second != first
    name = "unet/diffusion_pytorch_model.safetensors"
    assert Path(second, name).read_bytes() != Path(first, name).read_bytes()
    assert download(revision=old) == first
    assert download(local_files_only=True) == second
    assert len(converted_folders(tmp_path / "home")) == 2


def test_a_forced_download_converts_anew(loaded_authors, converted, tmp_path):
    (folder,) = converted_folders(tmp_path / "home")
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.write_bytes(b"rotten")
    TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, force_download=True)
    assert converted_folders(tmp_path / "home") == [folder]
    assert weights.read_bytes() == (converted / "unet/diffusion_pytorch_model.safetensors").read_bytes()


def test_a_file_system_without_links_serves_what_was_converted(authors, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    folder = TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE)
    assert TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE) == folder
    assert TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, local_files_only=True) == folder
    assert [str(path) for path in converted_folders(tmp_path / "home")] == [folder]


def test_components_types_and_caches_are_passed_on_for_the_authors_repositories(authors, tmp_path):
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler()
    pipe = TryOnPipeline.from_pretrained(
        AUTHORS,
        architecture=ARCHITECTURE,
        scheduler=scheduler,
        dtype={"unet": torch.float16, "default": torch.float32},
        cache_dir=tmp_path / "elsewhere",
        variant="fp16",
    )
    assert pipe.scheduler is scheduler
    assert (pipe.unet.dtype, pipe.vae.dtype) == (torch.float16, torch.float32)
    assert converted_folders(tmp_path / "elsewhere")
    assert not (tmp_path / "home" / "stableviton_sdk").exists()


def test_wrong_choices_for_an_authors_repository_are_refused_before_anything_is_downloaded(authors):
    for options, expected in (
        ({"checkpoint": "VITONHD_2048"}, "has no checkpoint 'VITONHD_2048': pass checkpoint= one of VITONHD."),
        ({"dtype": torch.int8}, "dtype is"),
        ({"dtype": "auto"}, "dtype is"),
        ({"architecture": {"garment_encoder": 4}}, "no mapping of mappings"),
        ({"architecture": "large"}, "no mapping of mappings"),
        ({"local_files_only": True, "force_download": True}, "force_download"),
    ):
        with pytest.raises(InvalidInput) as error:
            TryOnPipeline.from_pretrained(AUTHORS, **options)
        assert expected in sentence(error)
    assert not [path for _, path in authors.requests if "/cdn/" in path]


def test_a_damaged_or_closed_authors_repository_is_one_sentence_and_nothing_is_converted(authors, tmp_path):
    authors.fail("/cdn/", "corrupt")
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    assert "arrived damaged" in sentence(error)
    authors.heal()
    authors.repositories[AUTHORS].access = "gated"
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    assert "accept its terms" in sentence(error)
    assert converted_folders(tmp_path / "home") == []
    authors.commit("takesuke/SIFT-VTON", {}, remove=("model.ckpt",))
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained("takesuke/SIFT-VTON")
    assert "no such file in the repository" in sentence(error)


def test_the_download_is_not_begun_without_room_for_the_converted_weights_too(authors, content, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=int(1.7 * len(content.data))))
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE)
    assert "make room" in sentence(error)
    assert not [path for _, path in authors.requests if "/cdn/" in path]
    TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, dtype=torch.float16)


def test_a_checkpoint_that_rotted_in_the_cache_is_downloaded_again_before_it_is_converted(authors, content, converted):
    path = sdk_hub.fetch_file(AUTHORS, "ckpts/VITONHD.ckpt")
    path.resolve().write_bytes(content.data[:-1000] + bytes(1000))
    folder = TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE)
    assert path.read_bytes() == content.data
    name = "unet/diffusion_pytorch_model.safetensors"
    assert Path(folder, name).read_bytes() == (converted / name).read_bytes()


def test_a_checkpoint_of_another_architecture_leaves_nothing_converted(authors, tmp_path):
    with pytest.raises(IncompatibleCheckpoint) as error:
        TryOnPipeline.from_pretrained(AUTHORS, architecture={"unet": {"layers_per_block": 3}})
    sentence(error)
    authors.commit(AUTHORS, {"ckpts/VITONHD.ckpt": b"version https://git-lfs.github.com/spec/v1\n"})
    with pytest.raises(IncompatibleCheckpoint) as error:
        TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    sentence(error)
    assert converted_folders(tmp_path / "home") == []
    assert leftovers(tmp_path / "home") == []


def test_the_registrys_checksum_holds_unless_a_revision_is_chosen(authors, monkeypatch):
    entry = Checkpoint("ckpts/VITONHD.ckpt", sha256="d4e44bc5")
    monkeypatch.setitem(KNOWN_REPOS, AUTHORS, KnownRepo(AUTHORS, "none", {"VITONHD": entry}))
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    assert "has changed" in sentence(error)
    assert not [path for _, path in authors.requests if "/cdn/" in path]
    assert Path(TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, revision="main"), "unet").is_dir()


@pytest.mark.parametrize(
    "failure",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_during_the_conversion_is_one_sentence_and_leaves_nothing(
    authors, tmp_path, monkeypatch, failure
):
    from safetensors import torch as safetensors_torch

    saved = []

    def save_file(state, path, **options):
        if saved:
            Path(path).write_bytes(b"half of")
            raise failure
        saved.append(path)
        return real(state, path, **options)

    real = safetensors_torch.save_file
    monkeypatch.setattr(safetensors_torch, "save_file", save_file)
    with pytest.raises(WeightsUnavailable) as error:
        TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    assert "the disk is full" in sentence(error)
    assert converted_folders(tmp_path / "home") == []
    assert leftovers(tmp_path / "home") == []
    monkeypatch.setattr(safetensors_torch, "save_file", real)
    authors.take_requests()
    TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE)
    assert not [path for _, path in authors.requests if "/cdn/" in path], "the download is kept"


def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(authors, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            TryOnPipeline.from_pretrained(AUTHORS, architecture=ARCHITECTURE)
    assert converted_folders(tmp_path / "home") == []
    assert leftovers(tmp_path / "home") == []


# Processes of their own, which find the Hub by HF_ENDPOINT


@pytest.fixture(scope="module")
def place(content, converted, tmp_path_factory) -> Path:
    """What three processes left: see `loading_process.py`."""
    place = tmp_path_factory.mktemp("processes")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    with StandInHub() as hub:
        hub.commit(AUTHORS, {"ckpts/VITONHD.ckpt": content})
        hub.commit_folder("me/mine", converted)
        environment = {
            **kept,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(place / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(sdk_hub.__file__).parents[1]), str(Path(__file__).parent)]),
        }
        command = [sys.executable, str(Path(__file__).with_name("loading_process.py")), str(place)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return place


def test_two_processes_at_once_load_both_layouts_and_convert_once(place, converted):
    expected = fingerprint(TryOnPipeline.from_pretrained(converted))
    results = [json.loads((place / f"{number}.json").read_text()) for number in range(2)]
    assert [result["weights"] for result in results] == [[expected, expected]] * 2
    assert sum(len(result["conversions"]) for result in results) == 1
    assert len(converted_folders(place / "home")) == 1
    assert (place / "home" / "hub" / "models--me--mine").is_dir()


def test_a_killed_conversion_leaves_nothing_that_looks_finished_and_is_cleared_away_the_next_time(place, authors):
    cache = place / "killed"
    assert len(leftovers(cache)) == 1
    assert converted_folders(cache) == []
    folder = TryOnPipeline.download(AUTHORS, architecture=ARCHITECTURE, cache_dir=cache)
    assert leftovers(cache) == []
    assert [str(path) for path in converted_folders(cache)] == [folder]
