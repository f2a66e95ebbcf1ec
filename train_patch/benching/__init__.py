"""Parts of `hmix-bench`: `timing` (how one call is measured), `mixers`, `loader` and `puzzle` (what is), `machine`."""
