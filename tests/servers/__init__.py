"""Real servers for the tests, each started on a free port of 127.0.0.1 and ended by the test process.

Every server is a context manager with the same three things:
``fresh_store_url()``: the address of a new, empty place, for a store; ``storage_options``: what the adapter needs to
reach it from this process; ``environ``: what a child process needs in its environment to reach it with no other
configuration. A server that is not installed raises ``Missing``, which says how to install it.
"""

from __future__ import annotations


class Missing(Exception):
    """What a server needs is not installed; the text says how to get it."""
