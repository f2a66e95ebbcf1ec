"""A package that imports a mixer before its modules do."""

from timm.data import FastCollateMixup

__all__ = ['FastCollateMixup']
