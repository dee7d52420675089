"""One file a peer: reads a task as JSON on standard input, prints its result.

Each runs in a process and an environment of its own, and so imports nothing from
the project but what it measures. What they share is in ``common``.
"""
