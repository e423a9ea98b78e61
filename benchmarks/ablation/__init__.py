"""The paper's ablations, reproduced small: `python -m benchmarks.ablation`, from the repository's root."""
