"""Runs the module that SLUICE_CHAOS_MODULE names, with a clock that is wrong by SLUICE_CHAOS_CLOCK seconds.

Only the clock of the day is wrong, as on a machine whose time is not kept; the one that measures spans is not.
"""

import os
import runpy
import time

OFFSET = float(os.environ.get("SLUICE_CHAOS_CLOCK", "0"))

if OFFSET:
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + OFFSET
    time.time_ns = lambda: nanoseconds() + int(OFFSET * 1e9)

runpy.run_module(os.environ["SLUICE_CHAOS_MODULE"], run_name="__main__", alter_sys=True)
