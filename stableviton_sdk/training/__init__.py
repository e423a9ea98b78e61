"""Losses, augmentation, and what is trained from where."""
