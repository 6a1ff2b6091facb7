"""Snakemake's scheduler, with one timer instead of one for each job.

Snakemake (9.27) keeps to its rate of jobs by a timer after each look for new jobs, and looks again when one fires. A
job that ends adds a look, and so a timer that stays until the run's end: after a thousand jobs a thousand threads look
for new jobs. At its end Snakemake waits for the last of them. One timer at a time is enough.
"""

from __future__ import annotations

import threading

from snakemake.scheduling.job_scheduler import JobScheduler


def install() -> None:
    """Let Snakemake schedule so in this process."""
    JobScheduler._schedule_reevalutation = look_again


def look_again(scheduler: JobScheduler, delay: float) -> None:
    """Have a scheduler look for new jobs after a delay in seconds, unless it waits for a look already."""
    if getattr(scheduler, "_waiting", False):
        return

    def look() -> None:
        scheduler._waiting = False
        scheduler._open_jobs.release()

    scheduler._waiting = True
    timer = threading.Timer(delay, look)
    timer.daemon = True  # the run's end does not wait for it
    timer.start()
