"""Lines: messages between processes, put together from whatever pieces arrive."""

import json

from hypothesis import given, strategies as st

from bench.execution import lines as lines_module
from bench.execution.lines import Lines, encode

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)
MESSAGES = st.lists(st.dictionaries(st.text(max_size=4), PLAIN, max_size=3), max_size=5)


@given(MESSAGES, st.lists(st.integers(1, 9), min_size=1))
def test_messages_arrive_whole_however_they_are_cut(
    messages: list[dict[str, object]], cuts: list[int]
):
    data, found, lines = b"".join(map(encode, messages)), list[object](), Lines()
    while data:
        for cut in cuts:
            found += lines.feed(data[:cut])
            data = data[cut:]
    assert found == messages


@given(st.lists(st.binary(max_size=30) | PLAIN.map(lambda v: json.dumps(v).encode())))
def test_what_is_no_message_is_left_out_and_harms_no_other(garbage: list[bytes]):
    lines = Lines()
    for each in garbage:
        assert all(isinstance(message, dict) for message in lines.feed(each))
    assert lines.feed(b"\n" + encode({"type": "epoch"}))[-1] == {"type": "epoch"}


def test_a_message_cut_off_by_a_kill_takes_none_with_it():
    lines = Lines()
    assert lines.feed(b'{"type": "epo') == []
    assert lines.feed(b"\n" + encode({"type": "exit", "code": -9})) == [
        {"type": "exit", "code": -9}
    ]


def test_a_line_without_an_end_is_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(lines_module, "LONGEST", 1000)
    lines = Lines()
    for _ in range(20):
        assert lines.feed(b"x" * 100) == []
    assert len(lines._rest) <= 1000
    assert lines.feed(b"\n" + encode({"a": 1})) == [{"a": 1}]
