"""`PuzzleMix`: draws, costs, cut, transport and blend."""

from collections.abc import Sequence

import numpy as np
import torch

from ..blend import to_device
from ..checks import check_count, check_images, check_labels, check_number
from ..private import mixup_target
from ..switch import SharedSwitch
from .costs import block_saliency, puzzle_costs
from .cut import load_scipy, minimum_cut
from .saliency import Saliency
from .transport import transport

VALUES_AT_ONCE = 1 << 22
"""About this many values are copied at once to be mixed: a part of a large batch, in pairs of images."""


class PuzzleMix(SharedSwitch):
    """PuzzleMix (Kim, Choo and Song, ICML 2020, https://arxiv.org/abs/2009.06962), with the mask solved exactly.

    The images are cut into n × n blocks. A mask with a value in {1, ½, 0} for each block keeps the salient parts of
    both images and is smooth, as are the mixed images; then each image's salient blocks move to where it is seen. n
    and λ, the prior's share of the own image, are drawn once for a batch, the masks are each sample's own. The label
    weight of an image is the mean of its mask.

    The published code finds the masks by an alpha-beta swap, which is not always optimal; here they are minimum cuts.
    It mixes with a random permutation, which may leave samples as they are; here the partner is the batch-reversed
    sample, as in timm's mixers. The middle sample of an odd batch is its own partner and stays as it is.

    Random numbers come from NumPy's global generator: whether to mix, λ, n. One copy of the costs goes to the host
    and one of the masks comes back.

    Args:
        saliency (Callable): (images, target) → (B, H, W), not negative, for example `input_gradient(model)`. It is
            called only for batches that are mixed.
        alpha (float): λ ~ Beta(alpha, alpha); > 0.
        beta (float): smoothness of the mask.
        gamma (float): smoothness of the mixed image across the borders of blocks.
        eta (float): weight of the prior, which pulls the mean of the mask towards λ.
        neigh_size (int): side in pixels of the squares that images are averaged over to compare them at borders;
            where blocks are smaller, the block's.
        t_eps (float): cost of moving a block by the side of the image, in units of the saliency's sum; > 0.
        t_size (int): side in pixels of the tiles that move, where blocks are larger; -1 moves whole blocks.
        blocks (Sequence[int]): n is one of these with equal probability; each at least 2.
        prob (float): probability of mixing a batch, 0 to 1.
        label_smoothing (float): label smoothing of the mixed target, 0 to 1.
        num_classes (int): number of classes of the target.
        std (Sequence[float]): divisor of each channel in the images' normalization.

    Raises:
        ImportError: scipy is not installed.
        ValueError: an argument is out of its range; the message names it and says what is allowed.
    """

    def __init__(
        self,
        saliency: Saliency,
        alpha: float = 1.0,
        beta: float = 1.2,
        gamma: float = 0.5,
        eta: float = 0.2,
        neigh_size: int = 4,
        t_eps: float = 0.8,
        t_size: int = -1,
        blocks: Sequence[int] = (2, 4, 8, 16),
        prob: float = 1.0,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        check_number('alpha', alpha, open_low=True)
        check_number('beta', beta)
        check_number('gamma', gamma)
        check_number('eta', eta)
        check_count('neigh_size', neigh_size, low=1)
        check_number('t_eps', t_eps, open_low=True)
        if t_size != -1:
            check_count('t_size, where not -1,', t_size, low=1)
        if not blocks:
            raise ValueError('blocks must hold at least one number of blocks, got none')
        for count in blocks:
            check_count('every number in blocks', count, low=2)
        check_number('prob', prob, high=1.0)
        check_number('label_smoothing', label_smoothing, high=1.0)
        check_count('num_classes', num_classes, low=1)
        for value in std:
            check_number('std', value, open_low=True)
        load_scipy()
        self.saliency = saliency
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.eta = eta
        self.neigh_size = neigh_size
        self.t_eps = t_eps
        self.t_size = t_size
        self.blocks = tuple(blocks)
        self.mix_prob = prob
        self.label_smoothing = label_smoothing
        self.num_classes = num_classes
        self.std = tuple(std)
        self.mixup_enabled = True

    def __repr__(self) -> str:
        blocks, std = ('|'.join(f'{value:g}' for value in values) for values in (self.blocks, self.std))
        return (
            f'{type(self).__name__}(alpha={self.alpha:g}, beta={self.beta:g}, gamma={self.gamma:g}, eta={self.eta:g}, '
            f'neigh_size={self.neigh_size}, t_eps={self.t_eps:g}, t_size={self.t_size}, blocks={blocks}, '
            f'prob={self.mix_prob:g}, label_smoothing={self.label_smoothing:g}, num_classes={self.num_classes}, '
            f'std={std})'
        )

    def check_size(self, height: int, width: int) -> None:
        """Raises ValueError, saying which sides work, unless images of this size can be cut into all the blocks."""
        if _fits(height, width, self.blocks, self.neigh_size, self.t_size):
            return
        side = max(height, width)
        working = [s for s in range(1, 4 * side + 1024) if _fits(s, s, self.blocks, self.neigh_size, self.t_size)]
        near = [*[s for s in working if s <= side][-2:], *[s for s in working if s > side][:2]]
        sizes = [size for size in range(1, self.neigh_size) if _fits(height, width, self.blocks, size, self.t_size)]
        rule = f'neigh_size {self.neigh_size}' + (f' and t_size {self.t_size}' if self.t_size > 0 else '')
        raise ValueError(
            f'PuzzleMix cannot cut images of {height}×{width} into {", ".join(map(str, self.blocks))} blocks a side '
            f'with {rule}, each of which must divide the sides of larger blocks; sides that work: '
            f'{", ".join(map(str, near)) or "none"}'
            + (f'; or, for {height}×{width}, neigh_size {" or ".join(map(str, sizes))}' if sizes else '')
        )

    def __call__(self, images: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes a batch in place.

        Args:
            images: (B, C, H, W), floating, normalized, on any device.
            target: class indices (B,), on the device of the images.

        Returns:
            images, and the soft target (B, num_classes) float32.

        Raises:
            ValueError: the blocks do not fit the images (the message says which sides work), or target is not indices.
        """
        self.check_size(*images.shape[-2:])
        check_labels(target, len(images), self.num_classes)
        check_images(images)
        weight: float | torch.Tensor = 1.0
        if self.mixup_enabled and np.random.rand() < self.mix_prob:
            lam = float(np.random.beta(self.alpha, self.alpha))
            count = self.blocks[np.random.randint(len(self.blocks))]
            if len(images) > 1:
                saliency = self.saliency(images, target)
                mask = self.solve_masks(images, saliency, lam, count)
                self.blend_(images, saliency, mask)
                weight = mask.mean((1, 2)).unsqueeze(1)
        return images, mixup_target(target, self.num_classes, weight, self.label_smoothing)

    def solve_masks(self, images: torch.Tensor, saliency: torch.Tensor, lam: float, count: int) -> torch.Tensor:
        """Returns the masks of least energy.

        Args:
            images: (B, C, H, W), normalized.
            saliency: (B, H, W).
            lam: λ.
            count: n, blocks along each side.

        Returns:
            (B, n, n) float32 of 1 (own), ½ and 0 (partner), on the images' device; 1 for a middle sample.
        """
        if len(self.std) not in (1, images.shape[1]):
            raise ValueError(f'std must have a value for each of the {images.shape[1]} channels, got {self.std}')
        costs = puzzle_costs(
            images,
            block_saliency(saliency, (count, count)),
            lam,
            std=self.std,
            beta=self.beta,
            gamma=self.gamma,
            eta=self.eta,
            neigh_size=self.neigh_size,
        )
        # one copy to the host, where the cut is solved, and one back
        host = torch.cat([cost.flatten(1) for cost in costs], 1).detach().cpu().numpy()
        sections = np.cumsum([cost[0].numel() for cost in costs])[:-1]
        unaries, vertical, horizontal = (
            part.reshape(cost.shape) for part, cost in zip(np.split(host, sections, 1), costs, strict=True)
        )
        mask = minimum_cut(unaries, vertical, horizontal).astype(np.float32)
        if len(mask) % 2:
            mask[len(mask) // 2] = 1.0
        return to_device(mask, images.device)

    def blend_(self, images: torch.Tensor, saliency: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Moves salient blocks to where masks (B, n, n) show them, and mixes the batch with its partners, in place."""
        grid = self._tiles(images.shape[2], mask.shape[1]), self._tiles(images.shape[3], mask.shape[2])
        for dim, length in enumerate(grid, start=1):
            mask = mask.repeat_interleave(length // mask.shape[dim], dim)
        shares = block_saliency(saliency, grid)
        visible = torch.cat((mask > 0, mask < 1))
        sources = transport(torch.cat((shares, shares.flip(0))), visible, self.t_eps)
        tiles = images.unflatten(3, (grid[1], -1)).unflatten(2, (grid[0], -1)).permute(0, 2, 4, 1, 3, 5)
        rows, columns = torch.div(sources, grid[1], rounding_mode='floor'), sources % grid[1]
        partner_share = (1.0 - mask).to(images.dtype)[..., None, None, None]
        samples = torch.arange(len(images), device=images.device)
        last, half = len(images) - 1, len(images) // 2
        step = max(1, VALUES_AT_ONCE // (2 * images[0].numel()))
        for start in range(0, half, step):
            firsts = samples[start : min(start + step, half)]
            these = torch.cat((firsts, last - firsts))
            own = tiles[these[:, None], rows[these], columns[these]]
            partners = len(images) + these  # their sources come second
            partner = tiles[(last - these)[:, None], rows[partners], columns[partners]]
            tiles[these] = own.unflatten(1, grid).lerp_(partner.unflatten(1, grid), partner_share[these])
        return images

    def _tiles(self, side: int, count: int) -> int:
        """The number of tiles along a side."""
        return side // self.t_size if 0 < self.t_size < side // count else count


def _fits(height: int, width: int, blocks: Sequence[int], neigh_size: int, t_size: int) -> bool:
    """Whether all numbers of blocks divide the sides, and neighbourhoods and tiles the sides of the blocks."""
    for count in blocks:
        block = height // count, width // count
        if height % count or width % count or not all(block):
            return False
        square = min(neigh_size, *block)
        if any(size % square or (0 < t_size < size and size % t_size) for size in block):
            return False
    return True
