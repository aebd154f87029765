"""A Dask scheduler with two worker processes on this machine, until it is ended. Says where it listens."""

from __future__ import annotations

import signal

from dask.distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        signal.signal(signal.SIGTERM, lambda number, frame: cluster.close())
        print(f"LISTENING {cluster.scheduler_address.removeprefix('tcp://')}", flush=True)
        signal.pause()
