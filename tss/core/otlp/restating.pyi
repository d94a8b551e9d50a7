# The compiled function has the reference's interface, to the letter.

from tss.core.otlp.tracestates import with_states as with_states
