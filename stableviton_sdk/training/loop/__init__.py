"""What every training run shares: sampling, checkpoints, logs."""
