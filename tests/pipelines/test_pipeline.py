import copy

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image
from support.tiny import (
    HEIGHT,
    LATENT_HEIGHT,
    LATENT_WIDTH,
    WIDTH,
    call_arguments,
    close,
    mask_image,
    random_image,
    tiny_pipeline,
)

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.inputs import TryOnInputs

LATENT = (4, LATENT_HEIGHT, LATENT_WIDTH)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prepared(**changes) -> TryOnInputs:
    arguments = {"photo": random_image(), "mask": mask_image(), "densepose": random_image(seed=2), **changes}
    return TryOnInputs.from_maps(**arguments, aspect=(WIDTH, HEIGHT))


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("size", [(48, 64), (200, 200), (101, 67), (90, 400)])
def test_the_result_has_the_photos_size_and_its_own_pixels_outside_the_mask(pipeline, size):
    person, mask = random_image(*size), mask_image(*size)
    image = pipeline(
        **call_arguments(person=person, mask=mask, densepose=random_image(*size, seed=2), output_type="pil")
    ).images[0]
    assert image.size == size
    assert image.mode == "RGB"
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(image)[kept], np.asarray(person)[kept])
    assert not np.array_equal(np.asarray(image)[~kept], np.asarray(person)[~kept])


def test_without_paste_back_the_networks_own_image_comes_back(pipeline):
    painted = pipeline(**call_arguments(paste_back=False)).images[0]
    kept = torch.from_numpy(np.asarray(mask_image()) == 0)
    person = torch.from_numpy(np.array(random_image())).permute(2, 0, 1) / 255
    assert float((painted - person).abs()[:, kept].mean()) > 0.01
    # inside the mask, away from the seam, both say the same
    blended = pipeline(**call_arguments(feather=0)).images[0]
    assert close(blended[:, ~kept], painted[:, ~kept])


def test_output_types_agree(pipeline):
    outputs = {kind: pipeline(**call_arguments(output_type=kind)).images for kind in ("pil", "np", "pt")}
    assert outputs["np"].shape == (1, HEIGHT, WIDTH, 3)
    assert outputs["pt"].shape == (1, 3, HEIGHT, WIDTH)
    assert close(outputs["np"][0], outputs["pt"][0].permute(1, 2, 0))
    assert close(np.asarray(outputs["pil"][0], dtype=np.float32) / 255, outputs["np"][0], 1.01 / 255)  # rounded twice
    assert pipeline(**call_arguments(output_type="latent")).images.shape == (1, *LATENT)


def test_arrays_of_unequal_photos_come_back_as_a_list(pipeline):
    sizes = [(48, 64), (96, 128)]
    arguments = {
        "person": [random_image(*size) for size in sizes],
        "mask": [mask_image(*size) for size in sizes],
        "densepose": [random_image(*size, seed=2) for size in sizes],
    }
    for kind, shapes in (("np", [(64, 48, 3), (128, 96, 3)]), ("pt", [(3, 64, 48), (3, 128, 96)])):
        images = pipeline(**call_arguments(**arguments, output_type=kind)).images
        assert isinstance(images, list)
        assert [tuple(image.shape) for image in images] == shapes


def test_the_output_names_what_the_network_was_given(pipeline):
    output = pipeline(**call_arguments(num_images_per_prompt=2))
    assert len(output.inputs) == 2
    assert output.inputs[0].frame_mask.getextrema() == (0, 255)
    assert output.attention is None
    assert len(pipeline(**call_arguments(), return_dict=False)[0]) == 1


# ---------------------------------------------------------------- what may go in


def test_every_kind_of_image_gives_the_same_result(pipeline, tmp_path):
    expected = pipeline(**call_arguments()).images
    arguments = call_arguments()
    names = ("person", "garment", "mask", "densepose")
    arrays = {name: np.array(arguments[name]) for name in names}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tensors = {name: (t.permute(2, 0, 1) if t.ndim == 3 else t[None]) / 255 for name, t in tensors.items()}
    for name in names:
        arguments[name].save(tmp_path / f"{name}.png")
    for kind in (
        arrays,
        tensors,
        {name: str(tmp_path / f"{name}.png") for name in names},
        {name: tmp_path / f"{name}.png" for name in names},
        {name: [arguments[name]] for name in names},
        {name: array[None] for name, array in arrays.items() if name != "mask"} | {"mask": arrays["mask"] > 127},
    ):
        assert close(pipeline(**call_arguments(**kind)).images, expected, 1e-4)


def test_prepared_inputs_give_the_same_result_again_and_again(pipeline):
    expected = pipeline(**call_arguments()).images
    inputs = prepared()
    for _ in range(2):
        images = pipeline(
            inputs, random_image(seed=1), num_inference_steps=2, generator=seeded(), output_type="pt"
        ).images
        assert close(images, expected, 1e-6)


def test_explicit_maps_win_over_prepared_ones(pipeline):
    inputs = prepared()
    narrow = Image.new("L", (WIDTH, HEIGHT), 0)
    narrow.paste(255, (10, 10, 20, 20))
    output = pipeline(
        inputs, random_image(seed=1), mask=narrow, num_inference_steps=1, generator=seeded(), output_type="pil"
    )
    assert output.inputs[0].frame_mask.getbbox() == (10, 10, 20, 20)
    changed = (np.asarray(output.images[0]) != np.asarray(random_image())).any(-1)
    assert changed.any()
    assert not changed[np.asarray(narrow) == 0].any()


def test_the_agnostic_image_is_derived_from_person_and_mask_unless_given(pipeline):
    derived = pipeline(**call_arguments()).images
    grey = np.array(random_image())
    grey[np.asarray(mask_image()) > 0] = 128
    assert close(pipeline(**call_arguments(agnostic=grey)).images, derived)
    assert not close(pipeline(**call_arguments(agnostic=random_image(seed=5))).images, derived, 1e-3)


def test_one_person_wears_many_garments_and_many_persons_one(pipeline):
    garments = [random_image(seed=11), random_image(30, 80, seed=12)]
    single = [
        pipeline(**call_arguments(garment=garment, generator=[seeded(index)])).images[0]
        for index, garment in enumerate(garments)
    ]
    together = pipeline(**call_arguments(garment=garments, generator=[seeded(0), seeded(1)])).images
    assert all(close(one, other, 1e-4) for one, other in zip(single, together, strict=True))
    maps = {"mask": [mask_image()] * 2, "densepose": [random_image(seed=2)] * 2}
    persons = [random_image(), random_image(seed=9)]
    both = pipeline(**call_arguments(person=persons, **maps, generator=[seeded(0), seeded(0)])).images
    assert close(both[0], pipeline(**call_arguments()).images[0], 1e-4)
    pairwise = pipeline(**call_arguments(person=persons, garment=garments, **maps)).images
    assert len(pairwise) == 2


def test_every_image_is_encoded_once_and_never_in_the_loop(pipeline):
    counts = {"vae": 0, "garment": 0}
    hooks = [
        pipeline.vae.encoder.register_forward_pre_hook(
            lambda module, args: counts.update(vae=counts["vae"] + len(args[0]))
        ),
        pipeline.garment_encoder.register_forward_pre_hook(
            lambda module, args: counts.update(garment=counts["garment"] + len(args[0]))
        ),
    ]
    try:
        pipeline(**call_arguments(garment=[random_image(seed=1)] * 3, num_images_per_prompt=2, num_inference_steps=4))
    finally:
        for hook in hooks:
            hook.remove()
    assert counts == {"vae": 3 + 2, "garment": 3}  # three garments; one agnostic and one DensePose image


def test_guidance_of_one_costs_one_branch_and_more_costs_two(pipeline):
    sizes = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[2])))
    try:
        for guidance_scale in (1.0, 3.0):
            pipeline(**call_arguments(guidance_scale=guidance_scale, num_inference_steps=1))
    finally:
        hook.remove()
    assert sizes == [1, 2]


def test_guidance_is_the_stated_combination_of_both_branches(pipeline):
    """The same step by hand: unconditional + scale * (conditional - unconditional)."""
    seen = {}

    def capture(module, args, kwargs, output):
        seen["prediction"] = output[0]

    def keep(_, step, timestep, tensors):
        seen["latents"] = tensors["latents"]
        return {}

    hook = pipeline.unet.register_forward_hook(capture, with_kwargs=True)
    latents = torch.randn(1, *LATENT, generator=seeded(3))
    scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    guided = TryOnPipeline(**{**pipeline.components, "scheduler": scheduler})
    guided.set_progress_bar_config(disable=True)
    try:
        guided(**call_arguments(guidance_scale=2.5, latents=latents, num_inference_steps=1, callback_on_step_end=keep))
    finally:
        hook.remove()
    without, with_garment = seen["prediction"].chunk(2)
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(1)
    prediction = without + 2.5 * (with_garment - without)
    expected = scheduler.step(prediction, scheduler.timesteps[0], latents).prev_sample
    assert close(seen["latents"], expected)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_guidance_of_at_most_one_is_off(pipeline, scale):
    assert torch.equal(pipeline(**call_arguments(guidance_scale=scale)).images, pipeline(**call_arguments()).images)


@pytest.mark.parametrize("halve", [False, True], ids=["scale alone", "as diffusers documents it"])
@pytest.mark.parametrize("last_guided", [0, 1])
def test_a_callback_may_switch_guidance_off(pipeline, last_guided, halve):
    batches = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, args: batches.append(len(args[2])))

    def switch_off(pipe, step, timestep, tensors):
        if step != last_guided:
            return {}
        pipe._guidance_scale = 0.0
        return {name: tensor.chunk(2)[-1] for name, tensor in tensors.items()} if halve else {}

    try:
        images = pipeline(
            **call_arguments(
                num_inference_steps=3,
                guidance_scale=4.0,
                garment=[random_image(seed=1), random_image(seed=3)],
                callback_on_step_end=switch_off,
                callback_on_step_end_tensor_inputs=["garment_embeds", "garment_latents", "conditioning"],
            )
        ).images
    finally:
        hook.remove()
    assert batches == [4] * (last_guided + 1) + [2] * (3 - last_guided)
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("name", ["_guidance_scale", "guidance_scale"])
def test_a_callback_may_switch_guidance_on_and_need_not_return_anything(pipeline, name):
    def switch_on(pipe, *_):
        setattr(pipe, name, 4.0)

    guided = pipeline(**call_arguments(num_inference_steps=3, callback_on_step_end=switch_on)).images
    assert not close(guided, pipeline(**call_arguments(num_inference_steps=3)).images, 1e-3)


@pytest.mark.parametrize("init_from", ["agnostic", "person", "noise"])
def test_calls_differ_in_what_is_noised(pipeline, init_from):
    captured = {}

    def capture(module, args):
        captured.setdefault("noisy", args[0][:, :4])

    hook = pipeline.unet.register_forward_pre_hook(capture)
    try:
        pipeline(**call_arguments(init_from=init_from, num_inference_steps=1))
    finally:
        hook.remove()
    noise = torch.randn(1, *LATENT, generator=seeded())
    signal = pipeline.scheduler.alphas_cumprod[-1]
    with torch.no_grad():
        inputs = prepared()
        if init_from == "agnostic":
            base = pipeline.prepare_conditioning([inputs], (WIDTH, HEIGHT))[:, :4]
        elif init_from == "person":
            base = pipeline.encode_images([inputs.frame_person], (WIDTH, HEIGHT))
    expected = noise if init_from == "noise" else signal.sqrt() * base + (1 - signal).sqrt() * noise
    assert close(captured["noisy"], expected)


@pytest.mark.parametrize(
    "scheduler", [UniPCMultistepScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, DDPMScheduler]
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_other_schedulers_and_predictions_work_and_keep_no_history(pipeline, scheduler, prediction_type):
    config = {**pipeline.scheduler.config, "prediction_type": prediction_type}
    own = TryOnPipeline(**{**pipeline.components, "scheduler": scheduler.from_config(config)})
    own.set_progress_bar_config(disable=True)
    before = copy.deepcopy(own.scheduler.__dict__)
    first = own(**call_arguments(num_inference_steps=3, guidance_scale=2.0)).images
    second = own(**call_arguments(num_inference_steps=3, guidance_scale=2.0)).images
    assert torch.isfinite(first).all()
    assert close(first, second, 1e-6)
    assert own.scheduler.__dict__.keys() == before.keys()
    assert own.scheduler.num_inference_steps == before["num_inference_steps"]


def test_images_are_the_same_whatever_the_batch(pipeline):
    garments = [random_image(seed=seed) for seed in range(5)]
    generators = [seeded(seed) for seed in range(5)]
    together = pipeline(**call_arguments(garment=garments, generator=generators)).images
    for index, garment in enumerate(garments):
        alone = pipeline(**call_arguments(garment=garment, generator=[seeded(index)])).images[0]
        assert close(alone, together[index], 0.5 / 255)


BAD_LISTS = {
    "person": ({"person": [random_image(), random_image(), "nowhere.png"]}, "person[2]"),
    "garment": ({"garment": [random_image(), np.full((4, 4, 3), 7.0)]}, "garment[1]"),
    "mask": ({"person": [random_image()] * 2, "mask": [mask_image(), Image.new("L", (48, 64))]}, "person[1]"),
    "densepose": ({"person": [random_image()] * 2, "densepose": [random_image(seed=2), "nowhere.png"]}, "person[1]"),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_bad_entry_of_a_list_is_named_by_its_place(pipeline, name):
    changes, place = BAD_LISTS[name]
    count = len(changes.get("person", [None]))
    maps = {"mask": [mask_image()] * count, "densepose": [random_image(seed=2)] * count}
    with pytest.raises(InvalidInput) as caught:
        pipeline(**call_arguments(**{**maps, **changes}))
    assert str(caught.value).startswith(place)
    assert "\n" not in str(caught.value)


def test_good_entries_of_a_list_are_kept_on_request(pipeline):
    garments = [random_image(seed=1), "nowhere.png", random_image(seed=3)]
    generators = [seeded(index) for index in range(3)]
    options = {"garment": garments, "output_attention": True, "on_error": "skip"}
    output = pipeline(**call_arguments(**options, generator=generators))
    assert output.images[1] is None
    assert output.inputs[1] is None
    assert list(output.errors) == [1]
    assert str(output.errors[1]).startswith("garment[1]")
    for index in (0, 2):
        alone = pipeline(**call_arguments(garment=garments[index], generator=[seeded(index)])).images[0]
        assert close(output.images[index], alone, 0.5 / 255)
    output.attention.source_of(20, 30, image=2)
    with pytest.raises(InvalidInput, match="skipped"):
        output.attention.source_of(20, 30, image=1)
    assert pipeline(**call_arguments(on_error="skip")).errors is None
    with pytest.raises(InvalidInput, match="nowhere"):
        pipeline(**call_arguments(garment="nowhere.png", on_error="skip"))


# ---------------------------------------------------------------- attention


def test_attention_is_noted_without_changing_a_pixel(pipeline):
    options = {"guidance_scale": 2.0, "num_images_per_prompt": 2}
    plain = pipeline(**call_arguments(**options, output_type="latent"))
    noted = pipeline(**call_arguments(**options, output_type="latent"), output_attention=True)
    assert torch.equal(plain.images, noted.images)
    attention = noted.attention
    assert attention.blocks == [0, 1, 2]
    assert attention.steps == [0, 1, 2]  # PLMS takes its second step twice
    cells = attention.coordinates(1, image=1)
    assert cells.shape == (LATENT_HEIGHT, LATENT_WIDTH, 3)
    assert 0 <= cells[..., 0].min() <= cells[..., 0].max() <= WIDTH
    assert 0 <= cells[..., 1].min() <= cells[..., 1].max() <= HEIGHT
    assert 0 <= cells[..., 2].min() <= cells[..., 2].max() <= 1


def test_only_the_steps_asked_for_are_noted(pipeline):
    attention = pipeline(**call_arguments(output_attention=[-1])).attention
    assert attention.steps == [2]
    with pytest.raises(InvalidInput, match="step 0"):
        attention.coordinates(0, step=0)
    for steps in ([7], "all", 3.5, []):
        with pytest.raises(InvalidInput, match="output_attention"):
            pipeline(**call_arguments(output_attention=steps))


def test_a_call_that_was_interrupted_before_the_noted_step_says_so(pipeline):
    def stop(pipe, *_):
        pipe._interrupt = True
        return {}

    attention = pipeline(**call_arguments(output_attention=[-1], callback_on_step_end=stop)).attention
    for ask in (lambda: attention.source_of(20, 30), attention.coordinates, attention.warp, attention.to_image):
        with pytest.raises(InvalidInput, match="interrupted"):
            ask()


def test_source_of_follows_the_photos_frame(pipeline):
    person, mask = random_image(200, 200), mask_image(200, 200)
    output = pipeline(
        **call_arguments(person=person, mask=mask, densepose=random_image(200, 200, seed=2), output_attention=True)
    )
    attention, frame = output.attention, output.inputs[0].frame
    left, top, _, _ = frame.box
    cells = attention.coordinates(1)
    height, width = cells.shape[:2]
    row, column = 5, 7
    x = left + (column + 0.5) / width * frame.size[0] - 0.5
    y = top + (row + 0.5) / height * frame.size[1] - 0.5
    assert np.allclose(attention.source_of(x, y, block=1), cells[row, column], atol=1e-4)
    with pytest.raises(InvalidInput, match="outside"):
        attention.source_of(left - 30, top)
    for wrong in ({"image": 3}, {"block": 9}):
        with pytest.raises(InvalidInput):
            attention.source_of(x, y, **wrong)


# ---------------------------------------------------------------- the door


WIDE_MASK = Image.new("L", (20000, 10), 255)
WIDE_MASK.paste(0, (0, 0, 100, 10))
BAD_CALLS = {
    "person of a wrong type": ({"person": 3}, "person"),
    "no person": ({"person": None}, "person is None"),
    "an empty list": ({"garment": []}, "empty list"),
    "a mask all black": ({"mask": Image.new("L", (48, 64), 0)}, "all black"),
    "a mask all white": ({"mask": Image.new("L", (48, 64), 255)}, "all white"),
    "a grey mask": ({"mask": Image.new("L", (48, 64), 128)}, "grey"),
    "an agnostic image as mask": ({"mask": random_image()}, "colour image"),
    "a mask of other proportions": ({"mask": mask_image(64, 64)}, "proportions"),
    "a DensePose of other proportions": ({"densepose": random_image(64, 30)}, "proportions"),
    "unequal numbers": ({"garment": [random_image()] * 2, "person": [random_image()] * 3}, "mask"),
    "too few masks": ({"person": [random_image()] * 2}, "mask"),
    "zero steps": ({"num_inference_steps": 0}, "num_inference_steps"),
    "half a step": ({"num_inference_steps": 2.5}, "num_inference_steps"),
    "no images": ({"num_images_per_prompt": 0}, "num_images_per_prompt"),
    "negative guidance": ({"guidance_scale": -1}, "guidance_scale"),
    "guidance that is no number": ({"guidance_scale": float("nan")}, "guidance_scale"),
    "an odd height": ({"height": 63}, "height"),
    "no width": ({"width": 0}, "width"),
    "a height in words": ({"height": "64"}, "height"),
    "other proportions of the prepared frame": ({"height": 64, "width": 64, "person": "prepared"}, "frame"),
    "an unknown init": ({"init_from": "zero"}, "init_from"),
    "an unknown output": ({"output_type": "jpeg"}, "output_type"),
    "a wrong number of generators": ({"generator": [torch.Generator()] * 2}, "generator"),
    "no generator at all": ({"generator": 42}, "generator"),
    "latents of another shape": ({"latents": torch.zeros(1, 4, 8, 8)}, "latents"),
    "latents with NaN": ({"latents": torch.full((1, *LATENT), torch.nan)}, "NaN"),
    "floats beyond one": ({"person": np.full((64, 48, 3), 7.0)}, "float values"),
    "NaN in an image": ({"garment": np.full((64, 48, 3), np.nan)}, "float values"),
    "an unknown callback tensor": ({"callback_on_step_end_tensor_inputs": ["secrets"]}, "secrets"),
    "a negative feather": ({"feather": -1}, "feather"),
    "a photo without maps": ({"mask": None}, "no preprocessor"),
    "a panorama": (
        {name: Image.new("RGB", (20000, 10)) for name in ("person", "densepose")} | {"mask": WIDE_MASK},
        "crop the photo",
    ),
    "a missing file": ({"garment": "/nowhere/garment.png"}, "no file"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_is_refused_with_one_sentence(pipeline, name):
    changes, match = BAD_CALLS[name]
    if isinstance(changes.get("person"), str):
        changes = {**changes, "person": prepared(), "mask": None, "densepose": None}
    with pytest.raises(InvalidInput, match=match) as caught:
        pipeline(**call_arguments(**changes))
    assert "\n" not in str(caught.value)


def test_several_persons_and_several_garments_of_unequal_number_are_refused(pipeline):
    with pytest.raises(InvalidInput, match="can't be paired"):
        pipeline([prepared()] * 2, [random_image()] * 3)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_callback_may_change_what_it_is_shown_in_place(pipeline, guidance_scale):
    def shift(_, __, ___, tensors):
        tensors["conditioning"].add_(1.0)
        return {}

    def exchange(_, __, ___, tensors):
        return {"conditioning": tensors["conditioning"] + 1.0}

    names = ["conditioning"]
    arguments = {"guidance_scale": guidance_scale, "callback_on_step_end_tensor_inputs": names}
    plain = pipeline(**call_arguments(guidance_scale=guidance_scale)).images
    shifted = pipeline(**call_arguments(callback_on_step_end=shift, **arguments)).images
    assert not close(shifted, plain, 1e-3)
    assert close(shifted, pipeline(**call_arguments(callback_on_step_end=exchange, **arguments)).images)
