"""From the released checkpoints to our folder: names, shapes and tensors, nothing executed."""

from .convert import ConversionReport, convert_checkpoint, map_state_dict

__all__ = ["ConversionReport", "convert_checkpoint", "map_state_dict"]
