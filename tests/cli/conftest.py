from support.evaluation_runs import listed, model, results

__all__ = ["listed", "model", "results"]
