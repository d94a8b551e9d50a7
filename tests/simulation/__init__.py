"""The whole daemon (`tss.daemon.selection.select`) over fake edges and a simulated clock, from a seed.

`plan` draws a seed's settings, traffic and faults; `world` lives through it, with `watch` looking on from inside;
`oracle` works out from the log alone what is true; `laws` holds what happened against it. `test_the_laws_bite` proves
that they would notice. `python -m tests.simulation --seed N` tells a story.

That all lives of the daemon give a trace the same verdict is demanded where the design promises it. It does not:
- of a trace whose beginning lies more than `replaySecs` of stream time before the commit that a later life starts from
  (its late spans are then a trace of their own; always so with `replaySecs: 0`);
- of a trace on two partitions, which different replicas may own;
- of a trace that was decided for `pressure`, since that depends on what else was held;
- where the log leaves it open: a record dated more than the grace (2 s) before it could be read, near a deadline; a
  record without a timestamp, dated 0, or so far ahead that only the wall clock can say whether to believe it.
Of these, law 1 still demands that each span below a commit has arrived, or was rightly dropped by what was known.
"""
