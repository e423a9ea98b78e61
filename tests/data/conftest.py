from support.data_sets import dress_code, plain, viton_hd

__all__ = ["dress_code", "plain", "viton_hd"]
