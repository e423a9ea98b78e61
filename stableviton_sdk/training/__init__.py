"""Losses, augmentation, and what is trained from where."""

from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"  # of the package's own runs
