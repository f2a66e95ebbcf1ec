"""mask + images → mixed images: float batches in place, uint8 samples at collate.

Nothing here is random or depends on a mask's family. Image j is the batch-reversed partner of image i, as in timm; the
middle sample of an odd batch is its own partner and stays as it is. (In `mix_rolled` it is the one before, as in
torchvision.) A mask of None leaves its sample alone.
"""

from .float_batches import blend_, mix_, mix_chunks_, mix_pairs_, mix_rolled, mix_whole_, to_device
from .uint8_samples import mix_uint8

__all__ = ['blend_', 'mix_', 'mix_chunks_', 'mix_pairs_', 'mix_rolled', 'mix_uint8', 'mix_whole_', 'to_device']
