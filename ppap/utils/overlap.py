"""A thread beside the work, which writes what is done while the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def behind() -> Iterator[Callable[[Callable[[], object]], None]]:
    """A function that has a thread do a piece of work, one at a time, in order.

    It waits until the piece before is done, and raises what that one raised; so does the end of the block.
    """
    with ThreadPoolExecutor(1, "behind") as thread:
        last: list[Future[object]] = []

        def do(work: Callable[[], object]) -> None:
            wait()
            last.append(thread.submit(work))

        def wait() -> None:
            if last:
                last.pop().result()

        yield do
        wait()
