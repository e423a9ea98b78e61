"""`TryOnPipeline` from the authors' repositories: downloaded, checked, converted once, and found again."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from support.loading_places import AUTHORS, SPACE, assert_same, converted_folders, leftovers
from support.sentences import sentence
from support.small_stand_in import small_state
from support.stand_ins import ARCHITECTURE, write_checkpoint

from stableviton_sdk import IncompatibleCheckpoint, InvalidInput, TryOnPipeline, WeightsUnavailable
from stableviton_sdk.hub import download as sdk_hub
from stableviton_sdk.hub.known_repos import KNOWN_REPOS, Checkpoint, KnownRepo


@pytest.mark.slow
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
        dtype={"unet": torch.float16, "spatial_encoder": torch.float16, "default": torch.float32},
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
        ({"dtype": "half"}, "dtype is"),
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
