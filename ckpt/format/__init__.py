"""The bytes that ckpt writes: keys and digests, names, records, segments. Pure: bytes in, bytes out, no I/O, no clock.

``docs/format.md`` describes the same format for readers written by others.
"""
