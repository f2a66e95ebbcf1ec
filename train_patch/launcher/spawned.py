"""The main module of processes that multiprocessing spawns for a launched script; nothing imports it by its name.

Such a process unpickles objects of the script's main module, which it finds here.
"""

if __name__ == '__mp_main__':
    from train_patch.launcher.any_script import execute_in_child  # executed by its path: it is in no package

    globals().update(execute_in_child())
