"""What may be sent of an answer that is still growing."""

from hypothesis import given
from hypothesis import strategies as st

from sif_offline.lab.server.text import TextAssembler


def decode(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def pieces(assembler, data, sizes):
    at = 0
    for size in sizes:
        yield assembler.push(list(data[at : at + size]))
        at += size
    yield assembler.push(list(data[at:]))
    yield assembler.finish()


@given(
    text=st.text(alphabet="abcä€😀 ", max_size=40),
    stop=st.lists(st.text(alphabet="abä ", min_size=1, max_size=4), max_size=3),
    sizes=st.lists(st.integers(1, 5), max_size=40),
)
def test_pieces_join_to_the_text_before_the_first_stop_string(text, stop, sizes):
    assembler = TextAssembler(decode, stop=stop)
    cuts = [text.find(each) for each in stop if each in text]
    sent = "".join(pieces(assembler, text.encode(), sizes))
    if len(cuts) < 2:  # of two that overlap, the one that is complete first ends the answer
        assert sent == (text[: cuts[0]] if cuts else text)
    assert text.startswith(sent)
    assert not any(each in sent for each in stop)
    assert assembler.stopped == bool(cuts)


def test_a_character_is_sent_whole_and_a_possible_stop_string_is_held_back():
    assembler = TextAssembler(decode, stop=["END"])
    euro = "€".encode()
    assert assembler.push(list(euro[:2])) == ""
    assert assembler.push(list(euro[2:])) == "€"
    assert assembler.push(list(b"x EN")) == "x "
    assert assembler.push(list(b"TER")) == "ENTER"
    assert assembler.push(list(b" E")) == " "
    assert assembler.finish() == "E"
