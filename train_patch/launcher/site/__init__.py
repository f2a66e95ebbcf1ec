"""The folder that a launch puts on the PYTHONPATH of the processes that a script starts."""
