"""The training run: exact, resumable, and clear about what is wrong."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.pairs import HEIGHT, WIDTH, Pairs
from support.tiny_training import (
    assert_equal_weights,
    batch_of,
    config_of,
    objective_of,
    run,
    tiny_components,
    weights,
)

from stableviton_sdk import files
from stableviton_sdk.errors import IncompatibleCheckpoint, InvalidInput
from stableviton_sdk.grids import GAP, LABEL, MIN_LABEL_WIDTH
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.preprocessing.inputs import TryOnInputs
from stableviton_sdk.training.loop import checkpoints
from stableviton_sdk.training.loop.run_log import read_metrics
from stableviton_sdk.training.loop.sampler import EpochShuffle, ResumableBatchSampler
from stableviton_sdk.training.loop.training_loop import TrainingDiverged, learning_rate
from stableviton_sdk.training.tryon.batches import collate
from stableviton_sdk.training.tryon.memory import estimate_memory
from stableviton_sdk.training.tryon.objective import encode, sample_noise
from stableviton_sdk.training.tryon.trainable import choose_trainable
from stableviton_sdk.training.tryon.trainer import make_objective, train


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    return output, run(config_of(output))[1]


def test_a_killed_and_resumed_run_equals_the_uninterrupted_one_bit_for_bit(uninterrupted, tmp_path):
    whole, whole_folder = uninterrupted
    config = config_of(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(config, Pairs(fail_at=7))  # one for the check, two for each step: dies in the fourth
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000002"]
    _, folder = run(config)
    assert_equal_weights(folder, whole_folder)
    last = [checkpoints.list_checkpoints(output / "checkpoints")[-1] for output in (tmp_path / "run", whole)]
    ours, theirs = (checkpoints.read_checkpoint_tensors(path, 1) for path in last)
    assert ours.keys() == theirs.keys()
    assert any(key.startswith("exp_avg_sq/") for key in ours)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == read_metrics(whole / "metrics.jsonl")
    assert [line["step"] for line in read_metrics(whole / "metrics.jsonl")] == [1, 2, 3, 4]


def test_only_the_authors_set_has_moved(uninterrupted):
    _, folder = uninterrupted
    before = {
        f"{component}.{key}": value
        for component in ("unet", "spatial_encoder", "garment_encoder", "vae")
        for key, value in tiny_components()[component].state_dict().items()
    }
    moved = {key for key, value in weights(folder).items() if not torch.equal(value, before[key])}
    trained = choose_trainable(*(tiny_components()[name] for name in ("unet", "spatial_encoder", "garment_encoder")))
    assert moved <= set(trained)
    assert len(moved) > 0.9 * len(trained)


def test_the_metrics_hold_every_loss(uninterrupted):
    line = read_metrics(uninterrupted[0] / "metrics.jsonl")[0]
    parts = line["denoising"] + 0.001 * line["total_variation"] + 0.03 * line["correspondence"]
    assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert line["learning_rate"] == 1e-3


def test_the_trained_pipeline_loads_and_holds_the_averaged_weights(uninterrupted):
    output, folder = uninterrupted
    loaded = TryOnPipeline.from_pretrained(folder)
    last = checkpoints.read_checkpoint_tensors(checkpoints.list_checkpoints(output / "checkpoints")[-1], 1)
    key = "up_blocks.1.zero_cross_attentions.0.zero_conv.weight"
    assert torch.equal(loaded.unet.state_dict()[key], last[f"average/unet.{key}"])
    assert not torch.equal(last[f"average/unet.{key}"], last[f"weights/unet.{key}"])


def test_validation_images_change_nothing_in_the_training(uninterrupted, tmp_path):
    config = config_of(tmp_path / "run", validation={"every": 2, "count": 2, "inference_steps": 1})
    state = torch.random.get_rng_state()
    _, folder = run(config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_equal_weights(folder, uninterrupted[1])
    sheets = sorted((tmp_path / "run" / "validation").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000002.png", "step-00000004.png"]
    sheet = np.asarray(Image.open(sheets[0]))
    top, left = GAP + LABEL, GAP
    assert np.array_equal(sheet[top : top + HEIGHT, left : left + WIDTH], Pairs()[0]["garment"])
    top, left = top + HEIGHT + GAP + LABEL, left + 3 * (MIN_LABEL_WIDTH + GAP)
    assert np.array_equal(sheet[top : top + HEIGHT, left : left + WIDTH], Pairs()[1]["person"])


@pytest.mark.slow
def test_workers_read_the_same_pairs(uninterrupted, tmp_path):
    _, folder = run(config_of(tmp_path / "run", workers=1))
    assert_equal_weights(folder, uninterrupted[1])


def test_accumulated_parts_are_the_whole_batch(tmp_path):
    finals = []
    for parts in (1, 2):
        config = config_of(tmp_path / str(parts), gradient_accumulation=parts, stage="base", loss={}, steps=2)
        finals.append(weights(run(config)[1]))
    assert all(torch.allclose(finals[0][key], finals[1][key], atol=2e-5) for key in finals[0])
    moved = "spatial_encoder.conv_in.weight"
    assert not torch.allclose(finals[0][moved], tiny_components()["spatial_encoder"].conv_in.weight, atol=2e-4)


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    finals = [
        weights(run(config_of(tmp_path / str(option), gradient_checkpointing=option, steps=1, ema_decay=None))[1])
        for option in (False, True)
    ]
    assert all(torch.allclose(finals[0][key], finals[1][key], atol=1e-6) for key in finals[0])


@pytest.mark.slow
def test_training_learns_the_pairs(tmp_path):
    config = config_of(
        tmp_path / "run",
        trainable="full",
        steps=24,
        learning_rate=3e-3,
        augmentation=None,
        checkpoint_every=24,
        loss={"correspondence": "cross-entropy", "correspondence_weight": 1.0, "blocks": [1]},
    )
    run(config, Pairs(count=2))
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for name, part in (("denoising", 0.9), ("correspondence", 0.9)):
        first, last = (np.mean([line[name] for line in chosen]) for chosen in (lines[:6], lines[-6:]))
        assert last < part * first, name


def test_adapters_are_saved_and_merged(tmp_path):
    _, folder = run(config_of(tmp_path / "run", trainable="lora", lora_rank=2, steps=2))
    final = weights(folder)
    assert not any("lora" in key for key in final)
    before = tiny_components()["unet"].state_dict()
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert not torch.equal(final[f"unet.{key}"], before[key])
    assert (tmp_path / "run" / "adapters" / "TryOnUNet").is_dir()


def test_a_diverged_run_names_step_batch_and_remedy_and_keeps_the_weights(tmp_path):
    pipeline = TryOnPipeline(**tiny_components())
    with torch.no_grad():
        pipeline.unet.conv_in.bias.fill_(float("nan"))
    before = {key: value.clone() for key, value in pipeline.spatial_encoder.state_dict().items()}
    with pytest.raises(TrainingDiverged, match=r"step 1, .*item \d, item \d.*lower learning_rate"):
        train(config_of(tmp_path / "run"), data=Pairs(), pipeline=pipeline, progress=False)
    assert all(torch.equal(value, before[key]) for key, value in pipeline.spatial_encoder.state_dict().items())
    assert checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("stableviton_sdk.training.tryon.trainer.start_pipeline", lambda _: pytest.fail("loaded"))
    (tmp_path / "file").write_text("mine")
    for output in ("file", "file/run"):
        with pytest.raises(InvalidInput, match="can't be written"):
            train(config_of(tmp_path / output), data=Pairs(), progress=False)


def test_items_that_cannot_be_trained_on_are_refused_in_one_sentence(tmp_path):
    class Bad(Pairs):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            item["person"] = item["person"][:-1]
            item["mask"] = item["mask"].astype(np.uint8)
            del item["worn_mask"]
            return item

    with pytest.raises(InvalidInput, match="person is uint8") as caught:
        run(config_of(tmp_path / "run"), Bad())
    assert "mask is uint8" in str(caught.value)
    assert "worn_mask is missing" in str(caught.value)
    with pytest.raises(InvalidInput, match="empty"):
        run(config_of(tmp_path / "run"), Pairs(count=0), validation_data=Pairs())
    with pytest.raises(InvalidInput, match="numbers from 0 to 1, for no block"):
        run(config_of(tmp_path / "run", loss={}))
    with pytest.raises(InvalidInput, match=r"loss\.blocks is \[7\]"):
        run(config_of(tmp_path / "run", loss={"blocks": [7]}))


def test_a_checkpoint_of_another_training_is_refused(uninterrupted, tmp_path):
    import shutil

    shutil.copytree(uninterrupted[0] / "checkpoints", tmp_path / "run" / "checkpoints")
    with pytest.raises(IncompatibleCheckpoint, match="of another network or of other parts"):
        run(config_of(tmp_path / "run", trainable="full"))


def test_checkpoints_are_complete_pruned_and_split(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    tensors = {f"weights/{index}": torch.full((250,), float(index)) for index in range(5)}  # 1 kB each
    for step in (1, 2, 3):
        saved = checkpoints.save_checkpoint(folder, step, tensors, {"scaler": None}, keep=2, max_file_bytes=2500)
    assert [path.name for path in checkpoints.list_checkpoints(folder)] == ["step-00000002", "step-00000003"]
    state = checkpoints.read_checkpoint_state(saved)
    assert (state["step"], state["files"]) == (3, 3)
    assert all(path.stat().st_size < 2500 for path in saved.glob("*.safetensors"))
    read = checkpoints.read_checkpoint_tensors(saved, 3)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save_checkpoint(folder, 4, tensors, {}, keep=2, max_file_bytes=2500)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002", "step-00000003"]
    (saved / "tensors-0001.safetensors").write_bytes(b"")
    with pytest.raises(IncompatibleCheckpoint, match="goes on from the one before"):
        checkpoints.read_checkpoint_tensors(saved, 3)


def test_conditioning_equals_the_pipelines(tmp_path):
    pipeline = TryOnPipeline(**tiny_components())
    item = Pairs()[0]
    batch = encode(pipeline.vae, collate([{**item, "position": 0}]))
    images = {name: Image.fromarray(item[name]) for name in ("person", "mask", "agnostic", "densepose")}
    maps = {name: images[name] for name in ("mask", "agnostic", "densepose")}
    prepared = TryOnInputs.from_maps(images["person"], **maps)
    with torch.no_grad():
        expected = pipeline.prepare_conditioning([prepared], (WIDTH, HEIGHT))
        garment = pipeline.encode_images([Image.fromarray(item["garment"])], (WIDTH, HEIGHT))
    assert torch.allclose(batch["conditioning"], expected, atol=1e-5)
    assert torch.allclose(batch["garment_latents"], garment, atol=1e-5)


def test_what_is_drawn_follows_from_seed_and_position():
    latents = torch.zeros(500, 4, 2, 2)
    batch = sample_noise({"latents": latents, "positions": torch.arange(500)}, 0, 1000, 0.2)
    part = sample_noise({"latents": latents[:3], "positions": torch.tensor([7, 499, 0])}, 0, 1000, 0.2)
    for name in ("noise", "timesteps", "dropped"):
        assert torch.equal(part[name], batch[name][[7, 499, 0]])
    assert float(batch["noise"].std()) == pytest.approx(1, abs=0.05)
    assert int(batch["timesteps"].min()) < 20
    assert int(batch["timesteps"].max()) > 980
    assert 0.14 < float(batch["dropped"].float().mean()) < 0.26
    other = sample_noise({"latents": latents, "positions": torch.arange(500)}, 1, 1000, 0.2)
    assert not torch.equal(other["noise"], batch["noise"])


@torch.no_grad()
def test_a_dropped_embedding_is_the_unconditional_token():
    objective = objective_of(TryOnPipeline(**tiny_components()))
    encoder = objective.garment_encoder
    garment = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    context = objective.embed(garment, torch.tensor([True, False]))
    assert torch.equal(context[:1], encoder.uncond_vector)
    assert torch.equal(context[1:], encoder(garment).embedding[1:])


@torch.no_grad()
def test_channel_weights_weigh_the_error_of_every_latent_channel():
    pipeline = TryOnPipeline(**tiny_components())
    batch = batch_of(pipeline)

    def loss(outside=0.2, **options):
        return float(objective_of(pipeline, unmasked_weight=outside, **options)(batch)["denoising"])

    plain = loss()
    assert loss(channel_weights=[3.0] * 4) == pytest.approx(plain, rel=1e-6)
    alone = [loss(channel_weights=[1e-9 if other != channel else 1.0 for other in range(4)]) for channel in range(4)]
    assert len({round(value, 6) for value in alone}) == 4
    assert np.mean(alone) == pytest.approx(plain, rel=1e-5)
    assert loss(channel_weights=[5.0, 1.0, 1.0, 1.0]) == pytest.approx((5 * alone[0] + sum(alone[1:])) / 8, rel=1e-5)
    everywhere = [loss(1.0, channel_weights=[1e-9 if place else 1.0 for place in range(4)]), loss(1.0)]
    assert everywhere[0] != pytest.approx(everywhere[1], rel=1e-4)


@pytest.mark.parametrize(
    "channel_weights, message",
    [
        ([1.0] * 3, "a number for each of 4 channels"),
        ([1.0, 1.0, 0.0, 1.0], r"channel_weights\[2\] is 0\.0: pass a number above 0"),
        ([1.0, 1.0, float("nan"), 1.0], r"channel_weights\[2\] is nan: pass a finite number"),
    ],
)
def test_channel_weights_that_do_not_fit_are_refused(tmp_path, channel_weights, message):
    pipeline = TryOnPipeline(**tiny_components())
    with pytest.raises(InvalidInput, match=message):
        make_objective(config_of(tmp_path, stage="base", loss={"channel_weights": channel_weights}), pipeline)


def test_every_epoch_is_another_order_of_all_items():
    class Numbers:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return {"index": index}

    items = EpochShuffle(Numbers(), seed=4)
    epochs = [[items[epoch * 10 + place]["index"] for place in range(10)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert items[13]["index"] == epochs[1][3]


def test_processes_share_batches_without_overlap():
    whole = [position for batch in ResumableBatchSampler(0, 4, 2, 6) for position in batch]
    shared = [ResumableBatchSampler(0, 4, 2, 3, process, 2) for process in range(2)]
    together = [position for pair in zip(*shared, strict=True) for batch in pair for position in batch]
    assert together == whole == list(range(48))
    assert list(ResumableBatchSampler(2, 4, 2, 6)) == list(ResumableBatchSampler(0, 4, 2, 6))[4:]
    assert len(ResumableBatchSampler(2, 4, 2, 6)) == 4


def test_learning_rates_warm_up_and_fall(tmp_path):
    config = config_of(tmp_path, warmup_steps=10, steps=110, schedule="cosine", learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == learning_rate(config, 10) == pytest.approx(1.0)
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 109) < 0.001
    assert learning_rate(config.replace(schedule="constant"), 109) == 1.0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_memory_estimate_counts_what_a_real_step_keeps(tmp_path, checkpointing):
    pipeline = TryOnPipeline(**tiny_components())
    config = config_of(tmp_path, stage="base", loss={}, gradient_checkpointing=checkpointing)
    parts = (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder)
    trained = choose_trainable(*parts)
    estimate = estimate_memory(pipeline, list(trained.values()), config)
    size = sum(parameter.numel() * 4 for parameter in trained.values())
    assert (estimate.gradients, estimate.optimizer, estimate.average) == (size, 2 * size, size)
    assert estimate.weights == sum(
        tensor.numel() * tensor.element_size()
        for part in (*parts, pipeline.vae)
        for tensor in part.state_dict().values()
    )
    if checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.spatial_encoder.enable_gradient_checkpointing()
    batch = batch_of(pipeline)
    kept = {}
    own = {tensor.untyped_storage().data_ptr() for part in parts for tensor in part.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        make_objective(config, pipeline)(batch)
    assert estimate.activations == pytest.approx(sum(size for size, _ in kept.values()), rel=0.1)
    assert "GB" in estimate.summary()
