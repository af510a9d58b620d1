"""JSON documents with something odd in one place."""

import copy

from hypothesis import strategies as st

odd = st.sampled_from([
    None, True, 0, -1, 10**400, -(10**400), float("nan"), float("inf"), 1e308,
    "", "\udc80", "x" * 3000, "a/../b", "\x1b]0;x\x07",
    [], {}, [[]], [{}], {"x": []}, [None, ["execution_error", {}]], [5, "p"],
    {"filename": []}, {"filename": "x", "type": []},
]) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=8,
)  # fmt: skip


@st.composite
def with_something_odd(draw, documents):
    """One of the documents, with one value in it, at any depth, replaced."""
    document = {"": copy.deepcopy(draw(st.sampled_from(documents)))}
    holder, key = document, ""
    while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 5)):
        holder = holder[key]
        key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key] = draw(odd)
    return document[""]
