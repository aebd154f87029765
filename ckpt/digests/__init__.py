"""Run identity: a digest of a value that is the same in every process.

Owns which values have such a digest and what goes into it. Guarantees: equal content gives an equal digest whatever
the process, PYTHONHASHSEED, the order of a set or of equal dicts, memory layout of an array or sharing of references;
values of different types differ (``1``, ``1.0`` and ``True``; ``0.0`` and ``-0.0``). What has no stable content is an
``IdentityError`` that names it, never a guess. Pure: no I/O, and nothing is imported that the program did not import.
"""

from ckpt.digests.canonical import IMMUTABLE, digest, digest_of_call, is_plain_call, module_name, qualified_name

__all__ = ["IMMUTABLE", "digest", "digest_of_call", "is_plain_call", "module_name", "qualified_name"]
