"""The daemon: joins tasks and edges. `selection` shows every channel and the order of stopping, `supervisor` the process around it."""
