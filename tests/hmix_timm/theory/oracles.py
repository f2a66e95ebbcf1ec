"""The paper's formulas for a_jk = E[(1 − M_j)(1 − M_k)], and the same by loops over masks and pixels.

The formulas hold for a box that lies wholly inside the image, at the n − s start positions that Eq. 10 counts.
"""

import math

import numpy as np


def brute_force_map(masks):
    """E over masks (P, H, W) and over pixels i of (1 − M_i)(1 − M_{i+d}), for each displacement d."""
    _, height, width = masks.shape
    rest = 1.0 - masks
    result = np.empty((2 * height - 1, 2 * width - 1))
    for dy in range(1 - height, height):
        for dx in range(1 - width, width):
            here = rest[:, max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
            there = rest[:, max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
            result[height - 1 + dy, width - 1 + dx] = np.mean(here * there)
    return result


def inside_boxes(size, fraction):
    """Boxes of an area fraction wholly inside, sides rounded down, at the paper's start positions."""
    height, width = (int(n * math.sqrt(fraction)) for n in size)
    return [(y, y + height, x, x + width) for y in range(size[0] - height) for x in range(size[1] - width)]


def box_coverage(n, side):
    """One axis of Eq. 10: the probability that a segment of `side` of n pixels covers both pixel j and pixel k."""
    t = np.arange(1, n + 1)
    low, high = np.maximum(t - side, 0), np.minimum(t, n - side)
    overlap = np.minimum(high[:, None] - low[None, :], high[None, :] - low[:, None])
    return np.maximum(overlap, 0) / (n - side)


def cutmix_matrix(lam, size, ratio=1.0):
    """Eq. 10 for a box of the area fraction (1 − λ) r: a_jk, (H, W, H, W)."""
    y, x = (box_coverage(n, int(n * math.sqrt((1 - lam) * ratio))) for n in size)
    return np.einsum('ac,bd->abcd', y, x)


def hmix_matrix(lam, ratio, size):
    """b² + b (1 − b)(p_j + p_k) + (1 − b)² p_jk with b = 1 − λ / (1 − (1 − λ) r) and Eq. 10's p_jk: (H, W, H, W)."""
    both = cutmix_matrix(lam, size, ratio)
    b = 1 - lam / (1 - (1 - lam) * ratio)
    one = np.einsum('abab->ab', both)
    return b**2 + b * (1 - b) * (one[:, :, None, None] + one) + (1 - b) ** 2 * both


def map_of(matrix):
    """Mean of a_jk over in-image pixel pairs (i, i + d), for each displacement d."""
    height, width = matrix.shape[:2]
    result = np.empty((2 * height - 1, 2 * width - 1))
    for dy, dx in np.ndindex(result.shape):
        pairs = np.diagonal(np.diagonal(matrix, dy + 1 - height, 0, 2), dx + 1 - width, 0, 1)
        result[dy, dx] = pairs.mean()
    return result
