"""Models over several devices, the CPU and the disk: the maps of `triptych.placement`, carried out by hooks."""
