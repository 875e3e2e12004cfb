"""The child's side of `foreign.py`: reads sources from standard input until it ends, within bounds of its own."""

import os
import resource
import signal
import sys
import time
from typing import BinaryIO

import msgspec

from vrata.base.errors import InvalidInput
from vrata.cloud.keymanager.foreign import LENGTH, MEMORY, Job, Reading, Source
from vrata.haproxy import certificates

NICE = 5


def read(source: Source) -> Reading:
    """One source."""
    try:
        if source.pkcs12 is not None:
            return Reading(pem=certificates.bundle_of_pkcs12(source.pkcs12))
        pem = certificates.bundle(source.certificate, source.private_key, source.passphrase, source.intermediates)
        return Reading(pem=pem)
    except InvalidInput as error:
        return Reading(remedy=error.remedy or "store it again")
    except (MemoryError, RecursionError):
        return Reading(remedy="store something smaller")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Until the parent goes; SIGPROF ends the process when a job has used up its budget."""
    while head := requests.read(LENGTH.size):
        job = msgspec.msgpack.decode(requests.read(LENGTH.unpack(head)[0]), type=Job)
        signal.setitimer(signal.ITIMER_PROF, job.budget_s)
        before = time.process_time()
        reading = read(job.source)
        signal.setitimer(signal.ITIMER_PROF, 0)
        raw = msgspec.msgpack.encode(msgspec.structs.replace(reading, spent_s=time.process_time() - before))
        answers.write(LENGTH.pack(len(raw)) + raw)
        answers.flush()


if __name__ == "__main__":
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)
