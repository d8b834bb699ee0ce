"""Share caps and denials between auth servers, through Valkey or Redis.

``sharing`` is what a server uses. ``names``, ``caps``, ``denials``, ``health`` and ``url`` are without I/O; ``store``
alone talks to the store, and alone imports its client. ``script.lua`` is what runs in the store.
"""
