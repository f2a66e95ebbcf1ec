"""`blend.mix_uint8` as one compiled loop, for those who install numba (`pip install 'hmix-timm[fast]'`).

The paper's masks are M = c + y xᵀ (`factors`), so that one loop over the pixels blends all of them: it reads an image
and its partner once and writes the mixed one, in either of the two memory layouts. Dense masks have loops of their own,
compiled when the first one comes.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..masks import BoxMask, DenseMask, Mask
from .uint8_samples import MixUint8, with_partners

PIXEL = np.dtype([('r', np.uint8), ('g', np.uint8), ('b', np.uint8)])
"""Three channels side by side, as timm's loader hands them over. Named fields let the compiler know the distance."""


@lru_cache(maxsize=1)
def load() -> tuple[str, MixUint8] | None:
    """Compiles the loops, which takes about two seconds; once in a process, and processes forked later have them.

    Returns:
        The compiler's name, for the log, and a function in place of `blend.mix_uint8`; None where numba is not
        installed, or, with a warning, where it is broken.
    """
    try:
        import numba

        return f'numba {numba.__version__}', _compiled(numba)
    except Exception as error:
        if not isinstance(error, ImportError) or error.name != 'numba':  # it is there, but not for this numpy or Python
            warnings.warn(f'numba cannot be used, so uint8 samples are mixed by torch: {error}', stacklevel=2)
        return None


def _compiled(numba: Any) -> MixUint8:
    """The loops over the product masks of both memory layouts, compiled; those of dense masks wait for the first."""
    to_integer = np.float32(1.5 * 2**23)  # float32 has no fractions there
    inlined, jit = numba.njit(inline='always'), numba.njit(nogil=True, error_model='numpy')

    @inlined
    def mixed(own: Any, other: Any, keep: Any) -> Any:
        other = np.float32(other)
        nearest = (other + keep * (np.float32(own) - other)) + to_integer
        return np.uint8(np.int32(nearest - to_integer))

    @inlined
    def product(mask: Any, row: Any, column: Any) -> Any:
        return mask[0] + mask[1][row] * mask[2][column]

    @inlined
    def dense(mask: Any, row: Any, column: Any) -> Any:
        return mask[0][row, column]

    @inlined
    def chosen(own: Any, other: Any, keep: Any) -> Any:
        return own if keep else other

    def loops(keep: Any, mixed: Any = mixed) -> tuple[Any, Any]:
        """The loops over both memory layouts for a kind of mask, whose value at a pixel `keep` reads."""

        @jit
        def planar(own: Any, other: Any, mask: Any, out: Any) -> None:
            channels, height, width = out.shape
            for channel in range(channels):
                for row in range(height):
                    own_row, other_row, out_row = own[channel, row], other[channel, row], out[channel, row]
                    for column in range(width):
                        out_row[column] = mixed(own_row[column], other_row[column], keep(mask, row, column))

        @jit
        def interleaved(own: Any, other: Any, mask: Any, out: Any) -> None:
            _, height, width = out.shape
            for row in range(height):
                for column in range(width):
                    share = keep(mask, row, column)
                    a, b = own[row, column], other[row, column]
                    out[0, row, column] = mixed(a.r, b.r, share)
                    out[1, row, column] = mixed(a.g, b.g, share)
                    out[2, row, column] = mixed(a.b, b.b, share)

        return planar, interleaved

    of_product, of_dense, of_binary = loops(product), loops(dense), loops(dense, chosen)
    profile = numba.float32[::1]
    factors_type = numba.types.Tuple((numba.float32, profile, profile))
    for loop, pixel, dimensions in zip(of_product, (numba.uint8, numba.from_dtype(PIXEL)), (3, 2), strict=True):
        image = numba.types.Array(pixel, dimensions, 'C', readonly=True)
        loop.compile((image, image, factors_type, numba.uint8[:, :, ::1]))

    def mix_uint8(images: Sequence[np.ndarray], masks: Sequence[Mask | None], out: np.ndarray) -> None:
        size = out.shape[-2], out.shape[-1]
        factors = lru_cache(maxsize=1)(lambda mask: _factors(mask, size))
        for i, mask in enumerate(masks[: len(out)]):
            own, other = images[i], images[len(images) - 1 - i]
            pixels = _interleaved(own), _interleaved(other)
            planar, interleaved = of_product
            if isinstance(mask, DenseMask):
                planar, interleaved = of_binary if mask.values.dtype == bool else of_dense
            if mask is None:
                out[i] = own
            elif pixels[0] is not None and pixels[1] is not None:
                interleaved(*pixels, factors(mask), out[i])
            elif isinstance(mask, BoxMask) and mask.outside == 1.0:
                # where nothing is blended or put into another order, copying is faster
                yl, yh, xl, xh = mask.box
                out[i] = own
                out[i, ..., yl:yh, xl:xh] = other[..., yl:yh, xl:xh]
            else:
                channels = (np.ascontiguousarray(image).reshape(-1, *size) for image in (own, other))
                planar(*channels, factors(mask), out[i].reshape(-1, *size))

    return with_partners(mix_uint8)


def _factors(mask: Mask, size: tuple[int, int]) -> tuple[Any, ...]:
    """A mask as the loops read it."""
    if isinstance(mask, DenseMask):
        values = mask.values
        return (np.ascontiguousarray(values, None if values.dtype == bool else np.float32),)
    c, y, x = mask.factors(size)  # type: ignore[misc]
    return np.float32(c), y.astype(np.float32), x.astype(np.float32)


def _interleaved(image: np.ndarray) -> np.ndarray | None:
    """The image as (H, W) pixels, if it lies in memory like that."""
    if image.ndim != 3 or len(image) != 3:
        return None
    pixels = image.transpose(1, 2, 0)
    return pixels.view(PIXEL)[:, :, 0] if pixels.flags.c_contiguous else None
