"""The check for the words to avoid finds them where a reader meets them, and nowhere else."""

from __future__ import annotations

import subprocess

import pytest

from tests.words import ROOT, found_in, texts_of_cython, texts_of_page, texts_of_python


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("this will mend it", "mend"),
        ("All faults at once", "faults"),
        ("what is none", "is none"),
        ("For want of a root", "For want of"),
        ("what came late of a trace", "what came late"),
        ("it is put aside", "put aside"),
        ("how they are told apart", "told apart"),
        ("that comes to two bytes", "comes to"),
    ],
)
def test_each_is_found(text: str, word: str) -> None:
    assert [found for found, _ in found_in(text)] == [word]


@pytest.mark.parametrize("text", ["`faults` is a key", "if x is None", "recommended", "defaults", "an outcome to tell"])
def test_code_and_other_words_are_let_through(text: str) -> None:
    assert found_in(text) == []


def test_python_is_read_in_comments_and_texts_only() -> None:
    source = 'faults = 1  # a fault\nlog.info("no\\n", f"so {faults} faults")\n"""One\nfault."""\n'
    assert [line for line, text in texts_of_python(source) if found_in(text)] == [1, 2, 4]


def test_cython_is_read_in_comments_and_docstrings_only() -> None:
    source = 'cdef int faults  # a fault\ndef f():\n    """One\n    fault."""\n    return faults\n'
    assert [line for line, text in texts_of_cython(source) if found_in(text)] == [1, 4]


def test_a_page_is_read_outside_of_its_code() -> None:
    assert [line for line, text in texts_of_page("a fault\n```\nfaults\n```\nfault") if found_in(text)] == [1, 5]


def test_the_name_of_somebody_elses_package_is_never_recommended() -> None:
    """`tss` on the index is another project; ours is tail-sampling-selector."""
    command = ["git", "grep", "--fixed-strings", "-I", "-e", "tss" + "[parquet]", "-e", "pip install " + "tss"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout == ""
