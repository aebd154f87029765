"""``ckpt.map`` on Dask: ``executor="dask://host:port"``, or a ``dask.distributed.Client``. The only home of distributed.

Dask schedules and moves items, ckpt remembers: a worker that dies costs Dask a new try of the chunk. One that dies often
enough for Dask to give up (``distributed.scheduler.allowed-failures``) is a lost worker of the map. A scheduler that is
gone cancels what it had: ExecutorLostError.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from ckpt.errors import ExecutorLostError, OptionError
from ckpt.mapping.pools import Chunk, ExecutorPool
from ckpt.mapping.work import Outcome, Work

CONNECT_S = 30.0
_UNKNOWN = 8  # items at a time while the cluster has no workers yet


def pool(given: Any, work: Work, workers: int | None) -> DaskPool:
    """The pool for an address or a client. OptionError, ExecutorLostError (nobody answers)."""
    try:
        import distributed
    except ImportError as error:
        raise OptionError(f"dask is not installed ({error})", fix='pip install "ckpt-jobs[dask]"') from error
    if not isinstance(given, str):
        return DaskPool(given, work, workers, owned=False)
    address = given.partition("://")[2]
    if not address:
        raise OptionError(f"executor={given!r} names no scheduler", fix='write it like "dask://127.0.0.1:8786"')
    try:
        connect: Any = distributed.Client  # it has no types
        client = connect(f"tcp://{address}", timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ExecutorLostError(
            f"no Dask scheduler answers ({error})", where=given, fix="start it, or give the address of another one"
        ) from error
    return DaskPool(client, work, workers, owned=True)


class DaskPool:
    """Chunks as Dask tasks."""

    can_end = False
    breaks_whole = False
    chunk_s = 0.1
    spare = 0

    def __init__(self, client: Any, work: Work, workers: int | None, *, owned: bool) -> None:
        from distributed.scheduler import KilledWorker

        self._client, self._owned = client, owned
        # Each chunk is executed, even if an equal one was (pure=False), and by whom is for the scheduler to say.
        self._executor = client.get_executor(pure=False)
        cores = sum(client.ncores().values()) or _UNKNOWN
        self.in_flight = workers or 2 * cores  # one more each, so that no worker waits for the next message
        self._pool = ExecutorPool(self._executor, work, self.in_flight, (KilledWorker,))

    def submit(self, chunk: Chunk) -> Future[list[Outcome]]:
        if self._client.status in ("closing", "closed"):
            raise self._lost("it was closed")
        return self._pool.submit(chunk)

    def end(self, future: Future[list[Outcome]]) -> None:
        self._pool.end(future)

    def close(self) -> None:
        self._executor.shutdown(wait=False)
        if self._owned:
            self._client.close(timeout=5)

    def _lost(self, why: str) -> ExecutorLostError:
        return ExecutorLostError(
            f"the Dask client cannot reach its scheduler any more ({why})", where="ckpt.map", fix="run again with a new one"
        )
