"""The networks' part of a training step, on tiny networks."""

import torch

from support.tiny import CONTEXT

H, W = 16, 12


def tiny_batch(channels=13, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, channels, H, W, generator=generator)
    return sample, torch.tensor([10, 700])[:batch], torch.randn(batch, 1, CONTEXT, generator=generator)


def step(components, seed=0):
    """The networks' part of a training step: prediction and gradients."""
    unet, spatial, encoder = (components[name] for name in ("unet", "spatial_encoder", "garment_encoder"))
    sample, timesteps, _ = tiny_batch(seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    garment = torch.rand(2, 3, 32, 24, generator=generator) * 2 - 1
    garment_latents = torch.randn(2, 4, H, W, generator=generator)
    embedding, unconditional = encoder(garment, return_dict=False)
    context = torch.where(torch.tensor([True, False])[:, None, None], embedding, unconditional)
    features = spatial(sample, timesteps, context, garment_latents)
    prediction = unet(sample, timesteps, context, features).sample
    prediction.square().mean().backward()
    return prediction


def networks(components):
    return {name: components[name] for name in ("unet", "spatial_encoder", "garment_encoder")}
