"""Parts of `hmix-bench`: single calls, the loader, a training step; how they are timed, and on which machine."""
