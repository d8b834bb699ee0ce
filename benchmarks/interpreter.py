"""Describe how the interpreter was built, which can change the time of a small operation by a quarter."""

from __future__ import annotations

import platform
import sys
import sysconfig


def build() -> str:
    """Return the compiler and its options."""
    flags = {
        "--enable-optimizations": "profile-guided",
        "--with-lto": "link-time optimization",
        "--enable-shared": "shared library",
    }
    configured = sysconfig.get_config_var("CONFIG_ARGS") or ""
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    found = [name for flag, name in flags.items() if flag in configured] + ["free-threaded"] * free_threaded
    return ", ".join([platform.python_compiler(), *found])
