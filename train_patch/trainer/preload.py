"""What a fork server of loader workers imports, once for all of them."""

from ..imports import uncollected

with uncollected():
    from . import setup  # noqa: F401
