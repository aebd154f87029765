"""Ask a paid API about many things: a rate limit, tries again, a timeout, and dead letters for what fails for good.

    python examples/paid_api.py --items 200

It starts a small server of its own, which answers slowly, throttles (429), fails now and then (503), stalls, and refuses
some items for good (422). Kill it whenever you like and start it again: no answer that was recorded is paid for twice. Each
request carries an idempotency key that stays the same, so that one which was answered while nobody listened is not, either.
``ckpt failed paid_api`` lists what was refused; mend it, ``ckpt retry paid_api --failed``, and start the program again.
"""

from __future__ import annotations

import argparse
import http.server
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

import ckpt

BILL = Path("paid.txt")
"""What the server has charged: one line for each idempotency key that it had not seen."""


class Api(http.server.BaseHTTPRequestHandler):
    """``POST /ask`` with ``{"item": n}``; ``mended`` lets the refused items through."""

    mended = False
    seen: ClassVar[dict[tuple[str, int], int]] = {}
    charged: ClassVar[set[str]] = set()
    lock = threading.Lock()

    def do_POST(self) -> None:
        item = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["item"]
        key = self.headers["Idempotency-Key"]
        with self.lock:
            tries = self.seen[key, item] = self.seen.get((key, item), 0) + 1
        if item % 23 == 5 and tries == 1:
            time.sleep(1.5)  # stalls: the client gives up before
        if item % 11 == 3 and tries == 1:
            self._answer(429, {"error": "too many requests"})
        elif item % 13 == 7 and tries == 1:
            self._answer(503, {"error": "out of order"})
        elif item % 50 == 9 and not self.mended:
            self._answer(422, {"error": f"item {item} makes no sense"})
        else:
            self._charge(key)
            self._answer(200, {"answer": item * item})

    def _charge(self, key: str) -> None:
        with self.lock:
            if key not in self.charged:
                self.charged.add(key)
                with BILL.open("a") as bill:
                    bill.write(f"{key}\n")

    def _answer(self, status: int, content: dict[str, object]) -> None:
        data = json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has gone away

    def log_message(self, *_: object) -> None:
        """Nothing: it would drown the progress."""


class Busy(Exception):
    """The server wants to be asked again later."""


def ask(port: int, item: int) -> int:
    """One request. Busy and TimeoutError are worth another try; other errors are final."""
    headers = {"Idempotency-Key": ckpt.operation_key()}
    data = json.dumps({"item": item}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/ask", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=0.5) as response:
            return int(json.load(response)["answer"])
    except urllib.error.HTTPError as error:
        if error.code in (429, 503):
            raise Busy(str(error.code)) from None
        raise ValueError(json.load(error)["error"]) from None


@ckpt.job(name="paid_api")
def survey(items: int, limit: str) -> tuple[int, int]:
    """Sum of the answers, and how many items were refused."""
    port = start_server()
    total = refused = 0
    answers = ckpt.map(
        lambda item: ask(port, item), range(items), max_workers=8, limit=limit, retries=5, backoff=0.05, retry_for="1m",
        retry_on=(Busy, TimeoutError), on_error="collect",
    )  # fmt: skip
    for answer in answers:
        if isinstance(answer, ckpt.Failed):
            refused += 1
        else:
            total += answer
    return total, refused


def start_server() -> int:
    if BILL.exists():
        Api.charged |= set(BILL.read_text().split())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--limit", default="6000/m", help="tries per second, minute or hour")
    parser.add_argument("--mended", action="store_true", help="the server makes sense of every item now")
    options = parser.parse_args()
    Api.mended = options.mended
    total, refused = survey(options.items, options.limit)
    print(f"sum of the answers {total}, {refused} refused")


if __name__ == "__main__":
    main()
