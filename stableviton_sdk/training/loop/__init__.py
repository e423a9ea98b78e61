"""Machinery of every training: sampling, checkpoints, logs."""
