from support.data_sets import dress_code, plain, viton_hd
from support.evaluation_runs import listed, model, pipeline, results

__all__ = ["dress_code", "listed", "model", "pipeline", "plain", "results", "viton_hd"]
