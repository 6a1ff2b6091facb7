"""Snakemake's timers: one at a time, which the run's end does not wait for."""

import threading
from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from ppap.workflow import job_scheduler


def test_snakemake_asks_for_its_timers_where_we_answer(monkeypatch) -> None:
    assert callable(JobScheduler._schedule_reevalutation)
    monkeypatch.setattr(JobScheduler, "_schedule_reevalutation", None)
    job_scheduler.install()
    assert JobScheduler._schedule_reevalutation is job_scheduler.look_again


def test_a_scheduler_waits_for_one_look_at_a_time() -> None:
    scheduler = SimpleNamespace(_open_jobs=threading.Semaphore(0))
    before = set(threading.enumerate())
    for _ in range(3):
        job_scheduler.look_again(scheduler, 3600)
    (timer,) = set(threading.enumerate()) - before
    assert timer.daemon
    timer.cancel()


def test_a_scheduler_that_has_looked_may_wait_again() -> None:
    scheduler = SimpleNamespace(_open_jobs=threading.Semaphore(0))
    for _ in range(2):
        job_scheduler.look_again(scheduler, 0)
        assert scheduler._open_jobs.acquire(timeout=60)
