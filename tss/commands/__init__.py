"""The sub-commands of `tss`, a module each. A new one needs two things: its module, and its line in COMMANDS.

A module has `describe(parser)`, which adds its arguments and its help, and `call(options, environ)`, which does the work
and returns the exit code. It is loaded only when its command is given, so it may import what it needs.
"""

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "run": "run the daemon; also without a command",
    "check": "check the settings and show which ones are in force",
    "explain": "what each policy says of the traces in a file",
    "policies": "show, change and roll back the policies of a running daemon",
    "why": "what was decided about a trace, and why",
    "force": "rules that keep or drop matching traces for a while",
    "release": "send the traces that an exporter refused to the dead letters",
    "import": "write a Collector's tail sampling policies in our own form",
    "size": "pods, memory, partitions and retention for your traffic",
    "completion": "a script that completes commands and options in bash or zsh",
}

MODULES: Mapping[str, str] = {"import": "importing"}
"""The modules that cannot have the command's name."""

DONE, FAILED, WRONG_USE = 0, 1, 2  # exit codes; WRONG_USE: wrong settings or a wrong command line, so do not repeat it
INTERRUPTED = 130  # by Ctrl-C, as shells tell it: 128 and the number of SIGINT
