# The C types of trace.py, used when it is compiled.

cimport cython
from tss.core.conditions.program cimport Program
from tss.core.holds cimport Holds
from tss.core.names cimport Names
from tss.core.otlp.lineage cimport Lineage as CLineage  # renamed: in trace.py, Lineage is one of two classes
from tss.core.otlp.records cimport Part, Records as CRecords
from tss.core.progress cimport Progress
from tss.core.streamtime cimport StreamTime


cdef class Trace:
    cdef readonly bytes trace_id
    cdef readonly Progress home
    cdef readonly long long first_offset
    cdef long long _offset
    cdef object _offsets
    cdef object _chunk
    cdef list _chunks
    cdef long long _packed
    cdef readonly list further
    cdef readonly long long spans
    cdef readonly long long held_spans
    cdef readonly long long payload_bytes
    cdef readonly long long seen_bytes
    cdef public int service
    cdef public int root_name
    cdef readonly long long held_ms
    cdef readonly long long parked_to
    cdef readonly bint shelved
    cdef readonly bint taken_over
    cdef long long _leaving
    cdef long long _leaving_to
    cdef long long _leaving_ms
    cdef bint _fetched
    cdef public long long touched
    cdef readonly long long errors
    cdef readonly unsigned long long start_ns
    cdef readonly unsigned long long end_ns
    cdef readonly bint has_root
    cdef readonly bytes facts
    cdef readonly Program program
    cdef readonly bytes forced
    cdef readonly Program rules
    cdef readonly bint unscanned
    cdef bytes _span_ids
    cdef bytes _missing
    cdef CLineage _lineage
    cdef public long long first_ms
    cdef public long long last_ms
    cdef readonly long long root_ms
    cdef readonly int first_lead_ms
    cdef readonly int last_lead_ms
    cdef readonly int root_lead_ms
    cdef public long long closed_ms
    cdef public long long closed_second
    cdef public long long due
    cdef public long long size
    cdef public object reason
    cdef public object decision
    cdef public long long number
    cdef public bint late
    cdef public list latecomers
    cdef public Trace older
    cdef public Trace newer
    cdef public Trace quieter
    cdef public Trace livelier

    cpdef starts_at(self, StreamTime time)
    @cython.locals(of_records="long long")
    cpdef goes_on_at(self, StreamTime time)
    cpdef bint is_complete(self)
    cpdef unsigned long long duration_ns(self)
    @cython.locals(held=list, each=Holds)
    cpdef list holds(self)
    @cython.locals(begins=list)
    cpdef list begins(self)
    @cython.locals(each=Holds)
    cpdef bint holds_up_to(self, Progress partition, long long offset)
    cpdef bint is_held(self)
    @cython.locals(plain=list, holds=Holds)
    cpdef list chunks(self)
    @cython.locals(growth="long long", fragment="Part *", facts=bytes)
    cpdef long long absorb(self, CRecords records, Py_ssize_t at, Program program=*) except? -1
    cpdef name(self, bytes payload, bint has_root, Names names)
    @cython.locals(before="long long", lineage=CLineage)
    cdef long long _relate(self, CRecords records, Py_ssize_t at) except? -1
    @cython.locals(mine=Program)
    cdef long long _meet(self, bytes facts, Program program) except? -1
    @cython.locals(mine=Program)
    cpdef bint knows(self, Program program) except -1
    cpdef bint can_tell(self, Program program) except -1
    cpdef bint has_all_spans(self)
    cpdef long long given_randomness(self) except? -2
    @cython.locals(mine=Program, growth="long long")
    cpdef long long translate(self, Program program) except? -1
    @cython.locals(growth="long long")
    cdef long long _learn(self, bytes facts) except? -1
    @cython.locals(before="long long")
    cdef _learn_forced(self, CRecords records, Py_ssize_t at)
    cpdef forget_lineage(self)
    @cython.locals(growth="long long", payload=bytes, spans="long long")
    cpdef long long hold(self, Progress partition, long long offset, CRecords records, Py_ssize_t at) except -1
    @cython.locals(growth="long long")
    cdef long long _hold(self, long long offset, bytes payload) except -1
    @cython.locals(holds=Holds)
    cdef long long _hold_further(self, Progress partition, long long offset, bytes payload, long long spans) except -1
    cpdef clock(self, long long now_ms)
    cpdef bint may_be_parked(self)
    cpdef bint is_parked(self)
    cpdef bint is_leaving(self)
    cpdef long long last_offset(self)
    @cython.locals(chunks=list, loose=list, saved="long long")
    cpdef long long pack(self, packer) except? -1
    @cython.locals(growth="long long")
    cpdef long long rewrite(self, bytes payload, long long spans) except? -1
    @cython.locals(home=list, holds=Holds)
    cpdef list parts(self)
    @cython.locals(growth="long long", holds=Holds)
    cpdef long long rewrite_parts(self, list parts) except? -1
    cpdef bint is_packed(self) except -1
    @cython.locals(
        chunks=list, offsets=list, pieces=list, spans="long long", size="long long", growth="long long", each=Holds
    )
    cpdef long long leave_out(self, set places) except? -1
    @cython.locals(here=list, spans="long long", size="long long", each=Holds)
    cdef tuple _spans_in_redis(self, set places)
    cdef list _all_offsets(self)
    @cython.locals(pieces=list)
    cdef list _pieces(self)
    @cython.locals(offset="long long", each=Holds)
    cpdef release(self)
    cdef _settle(self, long long offset)
    @cython.locals(freed="long long", each=Holds)
    cpdef long long let_go(self, Progress partition) except -1
    @cython.locals(each=Holds)
    cpdef drop_chunks(self)
    @cython.locals(freed="long long", each=Holds)
    cdef long long _keep_further(self, list staying) except -1
    @cython.locals(each=Holds)
    cpdef take_off(self)
    cpdef bint forget(self, partitions) except -1
    @cython.locals(further=list)
    cdef _move_to(self, Holds first)
    cdef long long _held_bytes(self, long long records) except? -1
    cdef list _all_chunks(self)
    cdef long long _chunk_bytes(self) except? -1


cpdef long long facts_bytes(bytes facts) except -1


@cython.locals(trace=Trace, size="long long")
cpdef long long weight(list traces) except -1
