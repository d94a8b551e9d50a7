"""Do the tests notice a mistake? Seeded mutations, each against the tests that reach it: of `tss.state`, `tss.tasks` and `tss.edges`, or of what decides.

`mutating` finds every place where a mistake could be made and makes one there; `planted` holds mistakes that reviewers
made by hand; `covering` (a pytest plugin) notes which test calls which function; `judging` (another) notes why a test
failed: an assertion is a proof, a crash is none. `python -m mutants --mutations 100 --seed 15` runs all of it, in a copy
of the tree. `explained.yaml` says of each survivor why no test can, or need, notice it.

mutmut and cosmic-ray were looked at first. Neither samples by a seed, and both count any failing run as a kill, so a
mutation that only crashes counts as much as one that an assertion found.
"""
