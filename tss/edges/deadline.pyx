"""The thread for signals, in C: it needs neither the event loop nor the interpreter lock, and never waits for stderr.

A Python thread cannot do this: a library's call that keeps the interpreter lock stops that thread, too. A second process
cannot do it either: in a container the daemon is process 1, and no process there can kill it.
"""

from cpython.mem cimport PyMem_Malloc
from libc.string cimport memcpy

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigemptyset(sigset_t *)
    int sigfillset(sigset_t *)
    int sigaddset(sigset_t *, int)
    int sigwait(const sigset_t *, int *)
    int pthread_sigmask(int, const sigset_t *, sigset_t *)
    int SIG_SETMASK

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    int pthread_create(pthread_t *, const void *, void *(*)(void *) noexcept nogil, void *)

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct tm:
        pass
    int nanosleep(const timespec *, timespec *)
    time_t time(time_t *)
    tm *gmtime_r(const time_t *, tm *)
    size_t strftime(char *, size_t, const char *, const tm *)

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void *, size_t)
    void _exit(int)

# The threads only read data that was written before they started, and that is never changed or freed.
cdef struct Words:
    double secs
    char *text
    size_t size
    size_t time_at  # where the time is inserted

cdef sigset_t _heard
cdef unsigned char _stopping[65]  # by a signal's number: whether it asks for a stop, and as a second one stops at once
cdef Words _first, _second
cdef int _told_fd
cdef int _code
cdef volatile int _said = 0
cdef double _LAST_WORDS_SECS = 0.05  # for stderr to take one line; the end must not wait longer for it


def watch(heard, stops, int told_fd, int code, first, second):
    """Start the thread. Call it once, while every thread blocks the signals in ``heard``.

    Each signal is written to ``told_fd`` as one byte. A signal of ``stops`` ends the process with ``code`` after the seconds
    of ``first``; a second one, after the seconds of ``second``. Both are (seconds, text before the time, text
    after it); the text is written to stderr at the end.
    """
    global _told_fd, _code
    cdef pthread_t thread
    cdef sigset_t everything, before
    _told_fd, _code = told_fd, code
    sigemptyset(&_heard)
    for number in heard:
        sigaddset(&_heard, number)
    for number in stops:
        _stopping[<int>number] = 1
    _keep(&_first, first)
    _keep(&_second, second)
    sigfillset(&everything)
    pthread_sigmask(SIG_SETMASK, &everything, &before)  # the thread inherits it
    failed = pthread_create(&thread, NULL, _watch, NULL)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if failed:
        raise OSError(failed, "the thread of the signals cannot be started")


cdef int _keep(Words *words, given) except -1:
    secs, before, after = given
    cdef bytes text = before + after
    words.secs, words.size, words.time_at = secs, len(text), len(before)
    words.text = <char *>PyMem_Malloc(len(text) + 1)
    if words.text == NULL:
        raise MemoryError
    memcpy(words.text, <char *>text, len(text))
    return 0


cdef void *_watch(void *_nothing) noexcept nogil:
    cdef int number, stops = 0
    cdef unsigned char byte
    cdef pthread_t thread
    while True:
        if sigwait(&_heard, &number) != 0:
            continue
        if _stopping[number] and stops == 0:
            stops = 1
            pthread_create(&thread, NULL, _end, &_first)
        elif _stopping[number] and stops == 1:
            stops = 2
            pthread_create(&thread, NULL, _end, &_second)
        byte = <unsigned char>number
        write(_told_fd, &byte, 1)  # does not block; if the pipe is full, the event loop has hundreds of signals to read anyway


cdef void *_end(void *given) noexcept nogil:
    cdef pthread_t thread
    cdef double waited = 0
    _sleep((<Words *>given).secs)
    pthread_create(&thread, NULL, _say, given)  # another thread, since stderr may never take the line
    while not _said and waited < _LAST_WORDS_SECS:
        _sleep(0.005)
        waited += 0.005
    _exit(_code)


cdef void *_say(void *given) noexcept nogil:
    global _said
    cdef Words *words = <Words *>given
    cdef char line[4096]
    cdef tm utc
    cdef time_t now = time(NULL)
    cdef size_t size, rest = words.size - words.time_at
    if words.size + 64 < sizeof(line):
        memcpy(line, words.text, words.time_at)
        size = words.time_at
        size += strftime(line + size, 64, "%Y-%m-%dT%H:%M:%S.000000Z", gmtime_r(&now, &utc))
        memcpy(line + size, words.text + words.time_at, rest)
        write(2, line, size + rest)
    _said = 1
    return NULL


cdef void _sleep(double secs) noexcept nogil:
    cdef timespec left
    left.tv_sec = <time_t>secs
    left.tv_nsec = <long>((secs - left.tv_sec) * 1e9)
    while nanosleep(&left, &left) != 0:  # the process was stopped and continued; `left` is the rest of the time
        pass
