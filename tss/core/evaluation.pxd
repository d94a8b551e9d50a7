# The C types of evaluation.py, used when it is compiled.

cimport cython
from tss.core.buffer cimport Buffer
from tss.core.combining cimport Sampler
from tss.core.decision_log cimport DecisionLog
from tss.core.judging cimport Judge
from tss.core.policies.policy cimport Policy
from tss.core.tally cimport Tally
from tss.core.trace cimport Trace


@cython.locals(
    log=DecisionLog,
    kept=list, ended=list, delays=list, together=list, trace=Trace, each=Trace, traces="long long", spans="long long",
    size="long long", tally=Tally
)
cpdef evaluate(batch, Sampler sampler, Buffer buffer, enforcer=*, Judge judge=*)


@cython.locals(chosen=Sampler, marks=int, held=bint)
cdef _decide(Trace trace, Sampler sampler, enforcer, Judge judge, found, DecisionLog log)


@cython.locals(trace=Trace)
cpdef vote_again(Policy policy, list traces)


@cython.locals(traces=list, kept=bint, trace=Trace)
cpdef observe(found, observers, failed)


cdef _show(bytes trace_id, list chunks, bint kept, observers, failed)
