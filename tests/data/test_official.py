"""What benchmarks and training sets read alike of official files."""

import pytest

from videollama2.data.annotations import Row
from videollama2.data.official import disk_names, option_index
from videollama2.errors import DataError


@pytest.mark.parametrize(("answer", "index"), [(1, 1), ("1", 1), (" Cat ", 1), ("B", 1), ("0", 0)])
def test_the_right_option_by_index_words_or_letter(answer: object, index: int) -> None:
    assert option_index(Row({"answer": answer}, "a.json:1"), "answer", ("dog", "cat", "1")) == index


@pytest.mark.parametrize("answer", [3, "D", "cow", "same", "-1"])
def test_an_answer_that_is_none_of_the_options_is_an_error(answer: object) -> None:
    with pytest.raises(DataError, match=r"a\.json:1: answer: expected one of 3 options"):
        option_index(Row({"answer": answer}, "a.json:1"), "answer", ("dog", "same", "Same"))


def test_names_whose_utf_8_was_read_as_latin_1() -> None:
    assert disk_names("caf\u00e9.wav".encode().decode("latin1")) == ("caf\u00e9.wav", "caf\u00c3\u00a9.wav")
    assert disk_names("caf\u00e9.wav") == ("caf\u00e9.wav",) and disk_names("a.wav") == ("a.wav",)
