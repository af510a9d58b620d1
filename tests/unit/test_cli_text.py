"""Text for people."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyclient.cli.text import count, duration, message, one_line, printable, size, table


@given(st.text())
def test_nothing_printable_steers_a_terminal(text):
    shown = printable(text)
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) != "Cc"
        assert unicodedata.bidirectional(char) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Z"])))
def test_harmless_text_stays(text):
    assert printable(text) == text


@given(st.text(), st.integers(2, 80))
def test_one_line_is_one_line_of_that_width(text, width):
    line = one_line(text, width)
    assert len(line) <= width
    assert "\n" not in line


def test_one_line_shortens_what_is_too_long():
    assert one_line("a  b\n c", 10) == "a b c"
    assert one_line("x" * 100, 10) == "x" * 9 + "…"
    assert one_line("a" + " " * 1000 + "b", 10) == "a…"


@given(st.text(alphabet=st.sampled_from("ab \t\n\r\x0b\x85\u2028")))
def test_no_line_of_a_message_passes_for_another_message(text):
    _, *rest = message(text).splitlines() or [""]
    assert all(line.startswith("  ") for line in rest)


def test_a_message_is_cut():
    assert message("error: a\nhint: b\n  - c") == "error: a\n  hint: b\n  - c"
    assert message("x" * 1000) == "x" * 499 + "…"
    assert message("\n".join("abcd"), 4) == "a\n  b\n  c\n  d"
    assert message("\n".join("abcde"), 4) == "a\n  b\n  c\n  … (2 more lines)"
    assert len(message("x\n" * 1000).splitlines()) == 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""), (0, "0.0 s"), (0.84, "0.8 s"), (9.96, "10.0 s"), (42.4, "42 s"), (59.6, "1:00 min"),
        (185, "3:05 min"), (3599.7, "1:00:00 h"), (3723, "1:02:03 h"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (24 * 2**30, "24.0 GB"), (3 * 2**40, "3.0 TB")],
)
def test_sizes(octets, text):
    assert size(octets) == text


def test_counts():
    assert [count(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert count(2, "class", "classes") == "2 classes"


class TestTables:
    def test_columns_are_aligned_also_with_wide_characters(self):
        assert table(("A", "B"), [("x", "1"), ("猫猫", "2"), ("é", "3")]) == [
            "A     B",
            "x     1",
            "猫猫  2",
            "é     3",
        ]

    def test_columns_without_anything_are_left_out(self):
        assert table(("A", "B", "C"), [("x", "", "1"), ("y", "", "2")]) == ["A  C", "x  1", "y  2"]

    def test_a_cell_is_one_line(self):
        assert table(("A", "B"), [("x\ny", "1")]) == ["A    B", "x y  1"]

    def test_what_a_server_says_is_made_harmless(self):
        assert "\x1b" not in "".join(table(("A",), [("\x1b[2J",)]))
