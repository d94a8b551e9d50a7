# The C types of buffer.py, for when it is compiled.

cimport cython
from tss.core.conditions.program cimport Program
from tss.core.decision_log cimport DecisionLog
from tss.core.memory cimport Kept, Memory
from tss.core.names cimport Names
from tss.core.opentraces cimport OpenTraces
from tss.core.otlp.records cimport Records as CRecords, Row  # renamed: in buffer.py, Records is one of two classes
from tss.core.partition cimport Partition
from tss.core.tally cimport Tally
from tss.core.trace cimport Trace


cdef class Buffer:
    cdef readonly object limits
    cdef readonly Memory memory
    cdef readonly DecisionLog log
    cdef readonly object packer
    cdef public long long polled_bytes
    cdef public long long remembered_bytes
    cdef readonly long long open_spans
    cdef readonly long long open_bytes
    cdef readonly long long closed_bytes
    cdef long long _root_quiet_ms
    cdef long long _inactivity_ms
    cdef long long _max_duration_ms
    cdef long long _decision_wait_ms
    cdef long long _root_wait_ms
    cdef long long _shortest_wait_ms
    cdef long long _max_loose_bytes
    cdef long long _max_open_bytes
    cdef long long _max_open_spans
    cdef long long _max_open_traces
    cdef long long _max_closed_bytes
    cdef long long _max_trace_spans
    cdef long long _max_trace_bytes
    cdef Program _program
    cdef Names _names
    cdef readonly Tally tally
    cdef public object row_queues
    cdef readonly OpenTraces _open
    cdef Trace _next_look
    cdef long long _fragments
    cdef readonly dict _closing
    cdef list _out
    cdef set _partitions
    cdef readonly long long on_two_partitions
    cdef long long _told_on_two_partitions
    cdef long long _records
    cdef long long _replayed
    cdef long long _traces
    cdef long long _spans
    cdef long long _absurd
    cdef long long _duplicate_spans
    cdef long long _late_dropped_spans
    cdef bint _notes_late
    cdef list _noted
    cdef long long _noted_bytes
    cdef long long _packed_traces
    cdef long long _packed_saved_bytes
    cdef long long _given_up

    cdef _clear_counts(self)
    cdef _share(self)
    cpdef long long add_some(
        self, Partition partition, CRecords records, long long first, long long stop, long long wall_ms
    ) except -1
    @cython.locals(number=Py_ssize_t)
    cpdef add(self, Partition partition, CRecords records, long long wall_ms)
    @cython.locals(record="Row *", at=Py_ssize_t)
    cpdef _add(self, Partition partition, CRecords records, Py_ssize_t number, long long wall_ms)
    cpdef reach(self, Partition partition, long long wall_ms)
    @cython.locals(together=list, each=Trace, first="long long", rv="long long")
    cpdef list decided(self, Trace trace, decision)
    @cython.locals(together=list, late=list, places=list, left=list, parked=tuple, delivered=set, held="long long", each=Trace, home=Partition)
    cpdef list kept_elsewhere(self, Trace trace, Kept known)
    cdef list _sent_elsewhere(self, Trace late, Kept known)
    @cython.locals(each=Trace)
    cpdef dropped_elsewhere(self, Trace trace)
    @cython.locals(counted=set, chunks=list)
    cdef _note_uncounted(self, Trace late)
    cpdef rewrite(self, Trace trace, bytes payload, long long spans)
    @cython.locals(kept=Kept)
    cpdef given_randomness(self, Trace trace)
    cpdef rewrite_parts(self, Trace trace, list parts)
    cdef _leave_out(self, Trace trace, set places)
    cdef _changed(self, Trace trace, long long growth, bint was_packed)
    @cython.locals(together=list)
    cdef list _together(self, Trace trace)
    cdef _stop_closing(self, Trace trace)
    @cython.locals(size="long long")
    cdef _send(self, Trace trace, list places, tuple parked=*)
    @cython.locals(known=dict, trace=Trace, places=list, kept=Kept)
    cpdef dict deliver(self, traces)
    @cython.locals(home=Partition)
    cpdef settle(self, Trace trace)
    @cython.locals(trace=Trace)
    cpdef settle_all(self, traces)
    @cython.locals(trace=Trace, home=Partition)
    cpdef list to_park(self, long long after_ms, long long looks)
    @cython.locals(home=Partition, size="long long")
    cdef _leave(self, Trace trace, partitions)
    @cython.locals(settled=bint, trace=Trace, trace_id=bytes, spans="long long")
    cpdef _place(self, Partition partition, long long offset, CRecords records, Py_ssize_t at)
    cdef bint _closes_at_limit(self, Trace trace) except -1
    @cython.locals(late=Trace, trace_id=bytes)
    cdef bint _is_delivered(self, Partition partition, long long offset, CRecords records, Py_ssize_t at) except -1
    @cython.locals(settled=bint, verdict="long long", place=tuple, kept=Kept, trace_id=bytes)
    cdef bint _is_decided(self, Partition partition, long long offset, CRecords records, Py_ssize_t at) except -1
    @cython.locals(closing=Trace, late=Trace)
    cdef bint _waits(self, Partition partition, long long offset, CRecords records, Py_ssize_t at) except -1
    @cython.locals(late=Trace)
    cdef _follow(self, Kept kept, Partition partition, long long offset, CRecords records, Py_ssize_t at)
    @cython.locals(late=Trace)
    cdef Trace _latecomer(self, Partition partition, long long offset, CRecords records, Py_ssize_t at)
    @cython.locals(home=Partition, due="long long")
    cdef _schedule(self, Trace trace)
    @cython.locals(home=Partition)
    cdef _unschedule(self, Trace trace)
    @cython.locals(quiet="long long", limit="long long")
    cdef long long _deadline_ms(self, Trace trace) except? -1
    cdef _reason(self, Trace trace)
    @cython.locals(now_ms="long long", second="long long", turned="long long", trace=Trace)
    cdef _turn(self, Partition partition)
    @cython.locals(trace=Trace)
    cdef _clock(self, Partition partition, long long now_ms)
    @cython.locals(home=Partition)
    cpdef _close(self, Trace trace, reason)
    @cython.locals(record_ms="long long", due_ms="long long")
    cdef long long _closing_second(self, Trace trace, reason) except? -1
    cdef _relieve(self)
    cdef bint _is_quiet(self, Trace trace)
    @cython.locals(trace=Trace, saved="long long")
    cdef _pack_some(self)


@cython.locals(home=Partition)
cdef list _places(Trace trace)
@cython.locals(home=Partition)
cdef long long _first_to_replay(Trace trace) except? -1
cdef tuple _parked(Trace trace)
