"""The SSIM loss: it is the metric, weighs what it should, and reaches the networks through the autoencoder."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from support.pairs import Pairs
from support.tiny_training import batch_of, config_of, objective_of, tiny_components

from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.evaluation.metrics import similarity_map
from stableviton_sdk.models.patch_autoencoder import PatchAutoencoder
from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.bundled.autoencoder import image_loss
from stableviton_sdk.training.bundled.decoder import decoding_loss
from stableviton_sdk.training.loop.run_log import read_metrics
from stableviton_sdk.training.tryon.losses import ssim_loss
from stableviton_sdk.training.tryon.memory import estimate_memory
from stableviton_sdk.training.tryon.objective import decode
from stableviton_sdk.training.tryon.trainable import choose_trainable
from stableviton_sdk.training.tryon.trainer import make_objective, train

LOSS = {"ssim_weight": 0.5, "ssim_batch_limit": 1}


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def velocity_pipeline():
    components = tiny_components()
    components["scheduler"] = DDIMScheduler.from_config(components["scheduler"].config, prediction_type="v_prediction")
    return TryOnPipeline(**components)


def test_it_is_one_minus_the_metric_of_the_region():
    random = np.random.default_rng(0)
    truth, result = (random.integers(0, 256, (40, 32, 3), np.uint8) for _ in range(2))
    result = ((truth.astype(int) * 3 + result) // 4).astype(np.uint8)
    region = np.zeros((40, 32), bool)
    region[8:30, 5:20] = True
    first, second = (torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in (result, truth))
    loss = ssim_loss(first, second, torch.from_numpy(region)[None, None])
    assert float(loss) == pytest.approx(1 - similarity_map(result, truth).over(region), abs=1e-5)
    assert float(ssim_loss(second, second, torch.ones(1, 1, 40, 32))) == pytest.approx(0, abs=1e-6)


def test_a_step_against_its_gradient_comes_nearer_to_the_truth():
    truth = images(1, 3, 24, 24)
    result = (truth * 0.3).requires_grad_()
    weight = torch.ones(1, 1, 24, 24)
    loss = ssim_loss(result, truth, weight)
    loss.backward()
    with torch.no_grad():
        nearer = ssim_loss(result - 10 * result.grad, truth, weight)
    assert float(nearer) < loss.item() - 1e-3


def test_the_true_velocity_has_none():
    pipeline = velocity_pipeline()
    batch = batch_of(pipeline)
    velocity = pipeline.scheduler.get_velocity(batch["latents"], batch["noise"], batch["timesteps"])

    class Knows(torch.nn.Module):
        config = pipeline.unet.config

        def forward(self, sample, *unused, **others):
            return type("Output", (), {"sample": velocity})()

    objective = objective_of(pipeline, ssim_weight=0.5)
    objective.unet = Knows()
    with torch.no_grad():
        losses = objective(batch)
    assert float(losses["ssim"]) == pytest.approx(0, abs=1e-4)
    velocity = velocity + 0.5
    with torch.no_grad():
        assert float(objective(batch)["ssim"]) > 0.01


@torch.no_grad()
def test_it_counts_with_its_weight_and_inside_the_mask():
    pipeline = velocity_pipeline()
    batch = batch_of(pipeline)
    plain = objective_of(pipeline)(batch)
    losses = objective_of(pipeline, ssim_weight=0.5)(batch)
    assert float(losses["loss"]) == pytest.approx(float(plain["loss"]) + 0.5 * float(losses["ssim"]), rel=1e-5)
    inside = objective_of(pipeline, ssim_weight=0.5, unmasked_weight=0.0)(batch)
    assert float(inside["ssim"]) != pytest.approx(float(losses["ssim"]), rel=1e-3)
    first = objective_of(pipeline, ssim_weight=0.5, ssim_batch_limit=1)(batch)
    alone = objective_of(pipeline, ssim_weight=0.5)(batch_of(pipeline, 1))
    assert float(first["ssim"]) == pytest.approx(float(alone["ssim"]), rel=1e-3)
    assert float(first["ssim"]) != pytest.approx(float(losses["ssim"]), rel=1e-3)


def test_a_run_notes_it_and_leaves_the_autoencoder_alone(tmp_path):
    pipeline = velocity_pipeline()
    before = {name: tensor.clone() for name, tensor in pipeline.vae.state_dict().items()}
    config = config_of(tmp_path / "run", stage="base", loss={"ssim_weight": 0.5, "ssim_batch_limit": 1}, steps=2)
    folder = train(config, data=Pairs(), pipeline=pipeline, progress=False)
    line = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert 0 < line["ssim"] < 2
    assert line["loss"] == pytest.approx(line["denoising"] + 0.5 * line["ssim"], rel=1e-5)
    after = TryOnPipeline.from_pretrained(folder).vae.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_what_it_can_not_serve_is_refused(tmp_path):
    config = config_of(tmp_path, stage="base", loss={"ssim_weight": 0.5})
    with pytest.raises(InvalidInput, match="for networks that predict velocity"):
        make_objective(config, TryOnPipeline(**tiny_components()))
    for options in ({"ssim_weight": -1}, {"ssim_batch_limit": 0}):
        with pytest.raises(InvalidInput, match=rf"loss\.{next(iter(options))} is"):
            config_of(tmp_path, loss=options)


@torch.no_grad()
def test_the_decoders_training_counts_it_too():
    vae = PatchAutoencoder(latent_channels=4)
    batch = {
        "image": images(2, 3, 32, 32),
        "latents": images(2, 4, 4, 4, seed=1),
        "mask": torch.ones(2, 1, 32, 32, dtype=torch.bool),
        "clean": torch.tensor([False, False]),
    }
    plain, with_ssim = decoding_loss(vae, batch), decoding_loss(vae, batch, ssim_weight=0.2)
    assert "ssim" not in plain
    decoded = vae.decode(batch["latents"]).sample
    expected = ssim_loss(decoded, batch["image"], batch["mask"])
    assert float(with_ssim["ssim"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(with_ssim["loss"]) == pytest.approx(float(plain["loss"]) + 0.2 * float(expected), rel=1e-5)
    error = decoded - batch["image"]
    unweighted = image_loss(decoded, batch["image"], torch.ones(2, 1, 32, 32))
    assert float(unweighted["squared"]) == pytest.approx(float(error.square().mean()), rel=1e-5)


@pytest.mark.slow
def test_the_memory_estimate_counts_the_autoencoders_part(tmp_path):
    pipeline = velocity_pipeline()
    networks = (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder)
    trained = list(choose_trainable(*networks).values())

    def activations(**loss):
        return estimate_memory(pipeline, trained, config_of(tmp_path, stage="base", loss=loss)).activations

    without, one = activations(), activations(ssim_weight=0.5, ssim_batch_limit=1)
    both = activations(ssim_weight=0.5)
    assert without < one < both
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    latents = batch_of(pipeline)["latents"].requires_grad_()
    pipeline.vae.requires_grad_(False)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ssim_loss(decode(pipeline.vae, latents), torch.zeros(2, 3, 32, 24), torch.ones(2, 1, 32, 24))
    own = {parameter.untyped_storage().data_ptr() for parameter in pipeline.vae.parameters()}
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    real = sum(size for place, size in storages.items() if place not in own)
    assert both - without == pytest.approx(real, rel=0.15)
