"""Parts that a caller passes or replaces: which can make a pipeline, and what goes along with them."""

import copy
import inspect
import shutil

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, UniPCMultistepScheduler
from support.loading_places import assert_same
from support.sentences import sentence
from support.stand_ins import ARCHITECTURE
from support.tiny import call_arguments, close, random_image, tiny_components, tiny_pipeline

from stableviton_sdk import InvalidInput, TryOnPipeline, WeightsUnavailable
from stableviton_sdk.hub import known_repos
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.pipelines.components import check_scheduler

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NETWORKS = ("vae", "garment_encoder", "spatial_encoder", "unet")
AUTHORS_FILE = "https://huggingface.co/rlawjdghek/StableVITON/blob/main/ckpts/VITONHD.ckpt"

# Schedulers


def all_schedulers() -> list[type]:
    found = [getattr(diffusers, name) for name in dir(diffusers) if name.endswith("Scheduler")]
    return [entry for entry in found if inspect.isclass(entry) and issubclass(entry, SchedulerMixin)]


def refusal(scheduler: SchedulerMixin) -> str | None:
    try:
        check_scheduler(scheduler)
    except InvalidInput as error:
        return str(error)
    return None


@pytest.mark.slow
def test_every_scheduler_of_diffusers_works_or_is_refused_by_name():
    pipeline = tiny_pipeline()
    config = pipeline.scheduler.config
    works = []
    for kind in all_schedulers():
        try:
            pipeline.scheduler = kind.from_config(config)
        except (TypeError, ValueError, KeyError):
            continue  # it can't be made of this schedule at all
        if refused := refusal(pipeline.scheduler):
            assert f"the scheduler {kind.__name__} " in refused
            with pytest.raises(InvalidInput, match=kind.__name__):
                pipeline(**call_arguments(num_inference_steps=1))
        else:
            assert pipeline(**call_arguments(num_inference_steps=4)).images.isfinite().all(), kind
            works.append(kind.__name__)
    assert len(works) >= 19
    assert {"UniPCMultistepScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler"} <= set(works)


@pytest.mark.parametrize(
    "name", ["EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler", "IPNDMScheduler", "DDIMInverseScheduler"]
)
def test_a_scheduler_that_cannot_work_is_refused_wherever_it_is_passed(tiny_folder, released, name):
    scheduler = getattr(diffusers, name)()
    components = {**tiny_components(), "scheduler": scheduler}
    for make in (
        lambda: TryOnPipeline(**components),
        lambda: TryOnPipeline.from_pretrained(tiny_folder, scheduler=scheduler),
        lambda: TryOnPipeline.from_single_file(released, scheduler=scheduler),
        lambda: TryOnPipeline.from_pipe(tiny_pipeline(), scheduler=scheduler),
    ):
        with pytest.raises(InvalidInput) as error:
            make()
        assert f"the scheduler {name}" in sentence(error)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"prediction_type": "flow_prediction"}, "predicts 'flow_prediction'"),
        ({"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "use_flow_sigmas"),
    ],
)
def test_a_scheduler_set_to_flow_matching_is_refused(options, expected):
    pipeline = tiny_pipeline()
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, **options)
    with pytest.raises(InvalidInput, match=f"UniPCMultistepScheduler.*{expected}"):
        pipeline(**call_arguments())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, wanted",
    [
        ({}, "beta_start=0.00085, beta_end=0.012, beta_schedule='scaled_linear'"),
        ({"beta_schedule": "scaled_linear"}, "beta_start=0.00085, beta_end=0.012"),
        ({**SCHEDULE, "prediction_type": "v_prediction"}, "prediction_type='epsilon'"),
        ({**SCHEDULE, "num_train_timesteps": 500}, "num_train_timesteps=1000"),
        ({**SCHEDULE, "trained_betas": [0.01] * 1000}, "trained_betas=None"),
        ({**SCHEDULE, "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=False"),
    ],
)
def test_a_scheduler_of_another_noise_schedule_is_warned_about(tiny_folder, released, options, wanted):
    scheduler = DDIMScheduler(**options)
    replaced = tiny_pipeline()
    replaced.scheduler = scheduler
    for pipeline in (
        replaced,
        TryOnPipeline.from_pretrained(tiny_folder, scheduler=scheduler),
        TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE, scheduler=scheduler),
        TryOnPipeline.from_pipe(tiny_pipeline(), scheduler=scheduler),
        TryOnPipeline(**{**tiny_pipeline().components, "scheduler": scheduler}),
    ):
        with pytest.warns(UserWarning, match=f"DDIMScheduler has another noise schedule .*, or {wanted}[.]"):
            pipeline.check_inputs(height=64, width=64, num_inference_steps=1)


def test_schedulers_of_the_weights_noise_schedule_cause_no_warning(tiny_folder, recwarn):
    for pipeline in (TryOnPipeline.from_pretrained(tiny_folder), TryOnPipeline.from_bundled()):
        config = pipeline.scheduler.config
        for kind in all_schedulers():
            try:
                pipeline.scheduler = kind.from_config(config)
                pipeline.check_inputs(height=64, width=64, num_inference_steps=1)
            except (TypeError, ValueError, KeyError):
                continue  # it can't be made of this schedule, or is refused
    assert not [warning for warning in recwarn if "noise schedule" in str(warning.message)]


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"beta_start": 0.1, "beta_end": 0.2}'])
def test_a_folder_whose_noise_schedule_is_lost_is_refused(tiny_folder, tmp_path, content):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "scheduler" / "scheduler_config.json").write_text(content)
    with pytest.raises(WeightsUnavailable, match=r"scheduler_config\.json can't be used") as error:
        TryOnPipeline.from_pretrained(folder)
    sentence(error)
    assert TryOnPipeline.from_pretrained(folder, scheduler=tiny_pipeline().scheduler)


# Components


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"scheduler": DDIMScheduler}, "scheduler is the class DDIMScheduler: pass an object, such as DDIMScheduler."),
        ({"vae": AutoencoderKL}, "vae is the class AutoencoderKL"),
        ({"vae": None}, "vae is None"),
        ({"unet": None}, "unet is None"),
        ({"scheduler": None}, "scheduler is None"),
        ({"scheduler": "DDIMScheduler"}, "scheduler is a str, which has no set_timesteps"),
        ({"unet": torch.nn.Linear(1, 1)}, "unet is a Linear, which has no"),
    ],
)
def test_what_cannot_be_a_component_is_refused_before_anything_is_read(
    tmp_path, tiny_folder, released, given, expected
):
    for make in (
        lambda: TryOnPipeline(**{**tiny_components(), **given}),
        lambda: TryOnPipeline.from_pretrained(tiny_folder, **given),
        lambda: TryOnPipeline.from_pretrained("nobody/anything", **given),
        lambda: TryOnPipeline.from_single_file(tmp_path / "none.ckpt", **given),
    ):
        with pytest.raises(InvalidInput) as error:
            make()
        assert expected in sentence(error)


def test_networks_of_types_that_do_not_match_are_refused_before_the_call(tiny_folder):
    with pytest.raises(InvalidInput, match=r"unet is torch\.float16 and spatial_encoder torch\.float32"):
        TryOnPipeline.from_pretrained(tiny_folder, dtype={"unet": "fp16"})
    pipeline = tiny_pipeline()
    pipeline.spatial_encoder.to(torch.bfloat16)
    with pytest.raises(InvalidInput) as error:
        pipeline("no photo", "no garment", num_inference_steps=1)
    assert "unet is torch.float32 and spatial_encoder torch.bfloat16" in sentence(error)


@pytest.mark.parametrize("name", ["vae", "garment_encoder"])
def test_the_other_networks_may_have_a_type_of_their_own(tiny_folder, name):
    pipeline = TryOnPipeline.from_pretrained(tiny_folder, dtype={name: torch.bfloat16})
    pipeline.set_progress_bar_config(disable=True)
    assert getattr(pipeline, name).dtype == torch.bfloat16
    assert close(pipeline(**call_arguments()).images, tiny_pipeline()(**call_arguments()).images, 0.1)


# What goes along


def test_networks_keep_their_licence_and_options_without_the_configuration(tmp_path):
    pipeline = TryOnPipeline(
        **tiny_components(), weights_licence="for tests", default_num_inference_steps=7, correspondence_block=1
    )
    for again in (
        TryOnPipeline(**pipeline.components),
        TryOnPipeline(**TryOnPipeline(**pipeline.components).components),
    ):
        assert again.config.weights_licence == "for tests"
        assert again.config.default_num_inference_steps == 7
        assert again.config.correspondence_block == 1
    again.save_pretrained(tmp_path)
    assert "Licence of the weights: for tests." in (tmp_path / "README.md").read_text()
    fresh = TryOnPipeline(**tiny_components())
    assert (fresh.config.weights_licence, fresh.config.default_num_inference_steps) == (None, 50)


def test_networks_of_several_licences_name_them_all():
    ours = TryOnPipeline(**tiny_components(), weights_licence="Apache-2.0")
    theirs = TryOnPipeline(**tiny_components(), weights_licence="CC BY-NC-SA 4.0")
    mixed = TryOnPipeline(**{**ours.components, "vae": theirs.vae})
    expected = "vae: CC BY-NC-SA 4.0; garment_encoder, spatial_encoder, unet: Apache-2.0"
    assert mixed.config.weights_licence == expected
    assert ours.config.weights_licence == "Apache-2.0"


def test_a_licence_that_is_given_wins_and_shared_weights_keep_their_own():
    first = TryOnPipeline(**tiny_components(), weights_licence="first")
    second = TryOnPipeline(**first.components, weights_licence="second")
    assert second.config.weights_licence == "second"
    assert TryOnPipeline(**first.components).config.weights_licence == "first"


def test_options_of_a_later_pipeline_are_its_own():
    first = TryOnPipeline(**tiny_components(), default_num_inference_steps=7)
    second = TryOnPipeline(**first.components, default_num_inference_steps=3, correspondence_block=0)
    assert (second.config.default_num_inference_steps, second.config.correspondence_block) == (3, 0)
    third = TryOnPipeline(**first.components)
    assert third.config.default_num_inference_steps == 7
    assert (first.config.default_num_inference_steps, first.config.correspondence_block) == (7, None)
    assert TryOnPipeline.from_pipe(second).config.default_num_inference_steps == 3


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_saved_alone_keeps_its_licence(tmp_path, name, caplog):
    pipeline = TryOnPipeline(**tiny_components(), weights_licence="for tests")
    network = getattr(pipeline, name)
    network.save_pretrained(tmp_path)
    loaded = type(network).from_pretrained(tmp_path)
    assert not caplog.records  # nothing that this or another version of the class doesn't know
    made = TryOnPipeline(**{**tiny_components(), name: loaded})
    assert made.config.weights_licence == "for tests"
    copied = TryOnPipeline(**{**tiny_components(), name: copy.deepcopy(network)})
    assert copied.config.weights_licence == "for tests"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_from_pipe_shares_everything_and_changes_no_type(dtype):
    pipeline = TryOnPipeline(**tiny_components(), weights_licence="for tests", default_num_inference_steps=7).to(dtype)
    other = TryOnPipeline.from_pipe(pipeline)
    for name in NETWORKS:
        assert getattr(other, name) is getattr(pipeline, name)
        assert getattr(pipeline, name).dtype == dtype
    assert other.scheduler is pipeline.scheduler
    assert other.config.weights_licence == "for tests"
    assert other.config.default_num_inference_steps == 7
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    replaced = TryOnPipeline.from_pipe(pipeline, scheduler=scheduler, default_num_inference_steps=3)
    assert (replaced.scheduler, replaced.config.default_num_inference_steps) == (scheduler, 3)
    assert TryOnPipeline.from_pipe(pipeline, dtype="fp32").unet.dtype == torch.float32


def test_from_pipe_keeps_types_of_their_own_and_refuses_what_is_no_pipeline():
    pipeline = tiny_pipeline()
    pipeline.vae.to(torch.bfloat16)
    other = TryOnPipeline.from_pipe(pipeline)
    assert (other.vae.dtype, other.unet.dtype) == (torch.bfloat16, torch.float32)
    with pytest.raises(InvalidInput, match="from_pipe has no argument 'safety_checker'"):
        TryOnPipeline.from_pipe(pipeline, safety_checker=None)
    foreign = diffusers.DDIMPipeline(unet=torch.nn.Linear(1, 1), scheduler=DDIMScheduler())
    with pytest.raises(InvalidInput, match="DDIMPipeline has no vae"):
        TryOnPipeline.from_pipe(foreign)


# The authors' file


def test_a_single_file_takes_types_by_name(released):
    for options in (
        {"torch_dtype": torch.float16},
        {"torch_dtype": "float16"},
        {"dtype": "float16"},
        {"dtype": "fp16"},
    ):
        assert (
            TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE, **options).unet.dtype == torch.float16
        )
    automatic = TryOnPipeline.from_single_file(released, architecture=ARCHITECTURE, dtype="auto")
    assert automatic.unet.dtype in (torch.bfloat16, torch.float16, torch.float32)


@pytest.mark.parametrize("address", [AUTHORS_FILE, AUTHORS_FILE.replace("blob", "resolve") + "?download=true"])
def test_a_single_file_comes_from_its_address_on_the_hub_with_its_licence(authors, converted, address):
    pipeline = TryOnPipeline.from_single_file(address, architecture=ARCHITECTURE)
    assert_same(pipeline, TryOnPipeline.from_pretrained(converted))
    assert pipeline.config.weights_licence == known_repos.AUTHORS_LICENCE
    authors.take_requests()
    TryOnPipeline.from_single_file(address, architecture=ARCHITECTURE, local_files_only=True)
    assert authors.take_requests() == []


def test_a_spaces_checkpoint_knows_its_size_and_anyone_elses_names_its_page(authors, content):
    address = "https://huggingface.co/spaces/rlawjdghek/StableVITON/blob/main/checkpoints/VITONHD_1024.ckpt"
    large = TryOnPipeline.from_single_file(address, architecture=ARCHITECTURE)
    assert tuple(large.unet.config.sample_size) == (128, 96)
    authors.commit("me/mine", {"folder/my.ckpt": content})
    for address in (
        "huggingface.co/me/mine/blob/main/folder/my.ckpt",
        "https://hf.co/me/mine/blob/main/folder/my.ckpt",
    ):
        mine = TryOnPipeline.from_single_file(address, architecture=ARCHITECTURE)
        assert mine.config.weights_licence == "see the weights' page, https://huggingface.co/me/mine"


def test_addresses_of_anything_else_are_one_sentence(authors):
    for address, kind, expected in (
        ("https://example.com/me/mine/blob/main/my.ckpt", InvalidInput, "no address of a file on the Hub"),
        ("https://huggingface.co/me/mine", InvalidInput, "no address of a file on the Hub"),
        ("https://huggingface.co/nobody/none/blob/main/my.ckpt", WeightsUnavailable, "no such repository"),
        (AUTHORS_FILE + ".old", WeightsUnavailable, "no such file"),
    ):
        with pytest.raises(kind) as error:
            TryOnPipeline.from_single_file(address)
        assert expected in sentence(error)


# Memory options


@pytest.mark.parametrize("option", ["slicing", "tiling"])
def test_vae_options_are_switched_on_the_pipeline(option):
    pipeline = tiny_pipeline()
    expected = pipeline(**call_arguments(garment=[random_image(seed=1), random_image(seed=3)])).images
    getattr(pipeline, f"enable_vae_{option}")()
    assert getattr(pipeline.vae, f"use_{option}")
    images = pipeline(**call_arguments(garment=[random_image(seed=1), random_image(seed=3)])).images
    assert close(images, expected, 2e-3)
    getattr(pipeline, f"disable_vae_{option}")()
    assert not getattr(pipeline.vae, f"use_{option}")


def test_a_vae_without_tiles_says_so(warnings):
    pipeline = TryOnPipeline(**{**tiny_components(), "vae": PatchAutoencoder()})
    pipeline.enable_vae_tiling()
    pipeline.disable_vae_tiling()
    assert [line.split(",")[0] for line in warnings()] == ["PatchAutoencoder has no tiling"]


def test_float16_on_a_cpu_computes_without_a_warning(caplog):
    pipeline = tiny_pipeline().to("cpu", torch.float16)
    assert close(pipeline(**call_arguments()).images, tiny_pipeline()(**call_arguments()).images, 0.05)
    for arguments in (("cpu",), (torch.float32,), ("cpu", torch.bfloat16)):
        pipeline.to(*arguments)
    TryOnPipeline.from_bundled(dtype=torch.float16).to("cpu")
    assert [record.getMessage() for record in caplog.records] == []
