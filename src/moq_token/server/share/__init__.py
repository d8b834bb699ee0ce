"""Share caps and denials between auth servers, through Valkey or Redis.

``sharing`` is what a server uses for its decisions, ``everywhere`` what operators ask of all servers. ``names``,
``caps``, ``denials``, ``nodes``, ``receipts``, ``health`` and ``url`` are without I/O; ``store`` alone talks to the
store, and alone imports its client. ``script.lua`` is what runs in the store.
"""
