"""Trainings of a second or two: a pipeline smaller than the other tests', a few pairs, and a configuration."""

import torch
from safetensors.torch import load_file

from stableviton_sdk.pipelines.pipeline_tryon import TryOnPipeline
from stableviton_sdk.training.config import LossConfig, parse_config
from stableviton_sdk.training.tryon.batches import collate
from stableviton_sdk.training.tryon.objective import TryOnObjective, decode, encode, sample_noise
from stableviton_sdk.training.tryon.trainer import train
from support import tiny
from support.pairs import HEIGHT, WIDTH, Pairs


def tiny_components():
    """Still smaller than the other tests': a run takes many steps."""
    narrow = {"layers_per_block": 1, "norm_num_groups": 8, "num_attention_heads": 2}
    encoder = {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
    return tiny.tiny_components(
        lambda: tiny.tiny_unet(block_out_channels=(16, 16), **narrow),
        lambda: tiny.tiny_autoencoder(8, layers_per_block=1, norm_num_groups=8),
        lambda: tiny.tiny_garment_encoder(16, **encoder),
        lambda: tiny.tiny_spatial_encoder(16, **narrow),
    )


def batch_of(pipeline, count=2, wanted=()):
    """The first pairs, encoded, with their noise."""
    batch = collate([{**Pairs()[index], "position": index} for index in range(count)], wanted)
    return sample_noise(encode(pipeline.vae, batch), 0, 1000, 0.2)


def objective_of(pipeline, **options):
    networks = (pipeline.unet, pipeline.spatial_encoder, pipeline.garment_encoder, pipeline.scheduler)
    loss = LossConfig(**{"total_variation": 0.0, **options})
    return TryOnObjective(*networks, loss, decode=lambda latents: decode(pipeline.vae, latents))


def config_of(output, **changes):
    options = {
        "output": str(output),
        "data": {"size": [WIDTH, HEIGHT]},
        "loss": {"correspondence": "cross-entropy", "blocks": [1]},
        "stage": "atv",
        "steps": 4,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "ema_decay": 0.9,
        "workers": 0,
        "checkpoint_every": 2,
        "log_every": 1,
        "cpu": True,
    }
    return parse_config({**options, **changes})


def run(config, data=None, **options):
    pipeline = TryOnPipeline(**tiny_components())
    folder = train(config, data=Pairs() if data is None else data, pipeline=pipeline, progress=False, **options)
    return pipeline, folder


def weights(folder):
    return {
        f"{component}.{key}": value
        for component in ("unet", "spatial_encoder", "garment_encoder", "vae")
        for key, value in load_file(folder / component / "diffusion_pytorch_model.safetensors").items()
    }


def assert_equal_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
