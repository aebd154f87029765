"""Crawl a web site, eight pages at a time: kill -9 it and start it again; no page that was recorded is asked for again.

    python crawler.py --site http://127.0.0.1:8000

The job is an ``async def``. Each page is a step: it is durable in the log before the crawler looks at it. A batch that was
in progress when the process died asks only for the pages that are missing. It prints what the site consists of.
"""

import argparse
import asyncio
import re
from urllib.parse import urlsplit

import ckpt


@ckpt.step(retries=3, backoff=0.2, retry_on=(OSError,))
async def fetch(site: str, path: str) -> str:
    """The page at ``path``, by a plain HTTP/1.0 request."""
    address = urlsplit(site)
    reader, writer = await asyncio.open_connection(address.hostname, address.port or 80)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise OSError(f"{path}: {head.splitlines()[0].decode()}")
    return body.decode()


def batches(paths: list[str], size: int) -> list[list[str]]:
    return [paths[start : start + size] for start in range(0, len(paths), size)]


@ckpt.job
async def crawl(site: str, at_once: int, depth: int) -> dict[str, int]:
    """The length of every page that can be reached from the front page, by path."""
    found: dict[str, int] = {}
    waiting = ["/"]
    for _ in ckpt.loop(range(depth), name="levels"):
        linked: set[str] = set()
        for batch in ckpt.loop(batches(waiting, at_once)):
            pages = await asyncio.gather(*[fetch(site, path) for path in batch])
            for path, page in zip(batch, pages, strict=True):
                found[path] = len(page)
                linked.update(re.findall(r'href="(/[^"]*)"', page))
        waiting = sorted(linked - found.keys())
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", required=True)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--depth", type=int, default=12)
    arguments = parser.parse_args()
    pages = asyncio.run(crawl(arguments.site, arguments.at_once, arguments.depth))
    print(f"{len(pages)} pages, {sum(pages.values())} characters, the longest is {max(pages, key=lambda path: pages[path])}")
