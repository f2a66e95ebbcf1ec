"""What the mixers do, by definition: random numbers, masks, mixed images and targets, written densely in float64.

`Mixup` and `FastCollateMixup` are tested against this page in every mode, for every family of the package. It shares
no code with them but timm's `rand_bbox`, and is slow and plain. With λ the share of image i, and its partner j the
batch reversed:

    x̃_i = M ⊙ x_i + (1 − M) ⊙ x_j,    ỹ_i = w y_i + (1 − w) y_j,    w = mean(M)

`options` are the constructor arguments of a mixer; what is left out has the default of `mixup_alpha=0`.
"""

import itertools

import numpy as np
from timm.data.mixup import rand_bbox


def expected(images, labels, classes, mode, options, smoothing=0.0, collate=False):
    """Mixed images and targets, drawn from numpy's global generator.

    Args:
        images: (B, C, H, W), float64.
        labels: class indices (B,).
        classes: number of classes.
        mode: 'batch', 'pair', 'elem', or 'half': the first half of the batch, mixed as in 'elem', is all that returns.
        options: constructor arguments.
        smoothing: label smoothing.
        collate: whether it is the collate function's.
    """
    masks, weights = draw_masks(images.shape, mode, options, collate)
    masks, weights = masks[:, None], weights[:, None]
    hot = np.full((len(labels), classes), smoothing / classes)
    hot[np.arange(len(labels)), labels] += 1.0 - smoothing
    kept = (len(images) + 1) // 2 if mode == 'half' else len(images)
    mixed, target = (m * own + (1.0 - m) * own[::-1] for m, own in ((masks, images), (weights, hot)))
    return mixed[:kept], target[:kept]


def draw_masks(shape, mode, options, collate):
    """A mask (B, H, W) and a label weight (B,) for each image."""
    batch, size = shape[0], tuple(shape[-2:])
    if mode == 'batch':
        # timm's collate function draws its box for the batch even where λ came out as 1
        mask, weight = draw_mask(size, *draw_lam(options), options, draw_for_unmixed=collate)
        return np.repeat(mask[None], batch, 0), np.full(batch, weight)
    count = {'pair': batch // 2, 'elem': batch, 'half': (batch + 1) // 2}[mode]
    masks, weights = np.ones((batch, *size)), np.ones(batch)
    lam, use_cutmix = draw_lam(options, count)
    for i in range(count):
        j = batch - 1 - i
        if i != j:  # the middle of an odd batch stays as it is
            masks[i], weights[i] = draw_mask(size, lam[i], use_cutmix[i], options)
        if mode == 'pair':
            masks[j], weights[j] = masks[i], weights[i]
    return masks, weights


def draw_lam(options, count=None):
    """λ and whether the CutMix slot is used, for the batch (count None) or for each element, in timm's order."""
    mixup, cutmix, prob = options.get('mixup_alpha', 0.0), options['cutmix_alpha'], options.get('prob', 1.0)
    switch_prob = options.get('switch_prob', 0.5)
    if count is None:
        if not np.random.rand() < prob:
            return 1.0, False
        use_cutmix = np.random.rand() < switch_prob if mixup > 0 else True
        alpha = cutmix if use_cutmix else mixup
        return np.random.beta(alpha, alpha), use_cutmix
    use_cutmix = np.random.rand(count) < switch_prob if mixup > 0 else np.ones(count, dtype=bool)
    lam = np.random.beta(cutmix, cutmix, size=count)
    if mixup > 0:
        lam = np.where(use_cutmix, lam, np.random.beta(mixup, mixup, size=count))
    return np.where(np.random.rand(count) < prob, lam.astype(np.float32), np.float32(1.0)), use_cutmix


def draw_mask(size, lam, use_cutmix, options, draw_for_unmixed=False):
    """One mask and its label weight."""
    if not use_cutmix or (lam == 1.0 and not draw_for_unmixed):
        return np.full(size, float(lam)), float(lam)
    family, correct_lam = options.get('cutmix_mode', 'bbox'), options.get('correct_lam', True)
    mask = {'bbox': cutmix, 'hmix': hmix, 'gmix': gmix}[family](size, lam, options)
    return mask, (mask.mean() if correct_lam else float(lam))


def resized(partner, box):
    """The partner (C, H, W) with all of itself in the box, each pixel the nearest one above and to the left."""
    (height, width), (yl, yh, xl, xh) = partner.shape[-2:], box
    shown = partner.copy()
    for y, x in itertools.product(range(yl, yh), range(xl, xh)):
        shown[..., y, x] = partner[..., (y - yl) * height // (yh - yl), (x - xl) * width // (xh - xl)]
    return shown


def cutmix(size, lam, options):
    """M = 0 in timm's box, 1 outside."""
    yl, yh, xl, xh = rand_bbox(size, lam)
    mask = np.ones(size)
    mask[yl:yh, xl:xh] = 0.0
    return mask


def hmix(size, lam, options):
    """CutMix's box at 1 − (1 − λ) r; outside it what makes the mean λ, or literally λ / (1 − (1 − λ) r)."""
    lam, gamma = float(lam), options.get('hmix_gamma')
    ratio = options.get('hmix_ratio', 0.75) if gamma is None else np.random.beta(gamma, gamma)
    mask = cutmix(size, 1.0 - (1.0 - lam) * ratio, options)
    if options.get('correct_lam', True):
        return mask * (lam / mask.mean() if mask.any() else 0.0)
    return mask * (lam / (1.0 - (1.0 - lam) * ratio))


def gmix(size, lam, options):
    """A bump g(s) = exp(−π d² / (s H W)) around a pixel."""
    cy, cx = np.random.randint(0, size[0]), np.random.randint(0, size[1])
    rows, columns = np.ogrid[: size[0], : size[1]]
    squared = (rows - cy) ** 2.0 + (columns - cx) ** 2.0

    def g(spread):
        with np.errstate(over='ignore', under='ignore'):
            return np.exp(-np.pi * (squared / spread / (size[0] * size[1]))) if spread else np.zeros(size)

    if options.get('gmix_kernel', 'reference') == 'paper':
        return 1.0 - g(2.0 * (1.0 - lam))
    return g(lam) if lam < 0.5 else 1.0 - g(1.0 - lam)


def puzzle_energy(masks, unaries, vertical, horizontal):
    """The energies of PuzzleMix's masks for one image, block by block and edge by edge.

    Args:
        masks: (any number, n, m) of 1 (own), ½ and 0 (partner).
        unaries: (3, n, m), the costs of own, half and partner.
        vertical: (n − 1, m), weights of the edges between a block and the one below it.
        horizontal: (n, m − 1), weights of the edges between a block and the one to its right.
    """
    total = np.zeros(len(masks))
    height, width = unaries.shape[1:]
    for r, c in itertools.product(range(height), range(width)):
        for label, value in enumerate((1.0, 0.5, 0.0)):
            total[masks[:, r, c] == value] += unaries[label, r, c]
        if r + 1 < height:
            total += vertical[r, c] * (masks[:, r, c] - masks[:, r + 1, c]) ** 2
        if c + 1 < width:
            total += horizontal[r, c] * (masks[:, r, c] - masks[:, r, c + 1]) ** 2
    return total
