"""Parts of `hmix-bench`: `timing` (how one call is measured), `mixers` and `loader` (what is), `machine`."""
