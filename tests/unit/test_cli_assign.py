"""``--set``: values by address, some of them out of files."""

import pytest

from comfyclient.cli.assign import Assignments
from comfyclient.errors import EditError
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.prompt import Prompt

from ..cli_support import make_app  # noqa: TID252

CATALOG = Catalog.from_json({
    "Load": {"input": {"required": {"image": [["server.png"], {"image_upload": True}]}}, "output": ["IMAGE"]},
    "Text": {"input": {"required": {"text": ["STRING", {}], "count": ["INT", {"min": 0, "max": 9}]}}},
    "Kind": {
        "input": {"required": {"mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [
            {"key": "plain", "inputs": {"required": {}}},
            {"key": "rich", "inputs": {"required": {"words": ["STRING", {}]}}},
        ]}]}},
    },
})  # fmt: skip
PROMPT = Prompt(
    {
        "1": {"class_type": "Load", "inputs": {"image": "server.png"}},
        "2": {"class_type": "Text", "inputs": {"text": "old", "count": 1}},
        "3": {"class_type": "Kind", "inputs": {"mode": "plain"}},
    }
)


def apply(folder, *texts):
    edited = Assignments(make_app(folder), texts).apply(PROMPT, CATALOG)
    return {node_id: node["inputs"] for node_id, node in edited.nodes.items()}


def refused(folder, *texts):
    with pytest.raises(EditError) as caught:
        apply(folder, *texts)
    return str(caught.value)


class TestValues:
    def test_as_written(self, tmp_path):
        assert apply(tmp_path, "2.text=a = b", "Text.count=4")["2"] == {"text": "a = b", "count": 4}

    def test_two_at_signs_are_one(self, tmp_path):
        assert apply(tmp_path, "2.text=@@me")["2"]["text"] == "@me"
        assert apply(tmp_path, "2.text=a@b")["2"]["text"] == "a@b"

    def test_the_same_address_twice(self, tmp_path):
        assert refused(tmp_path, "2.text=a", "2.text=b") == "2.text is set twice"

    def test_the_same_input_by_two_addresses(self, tmp_path):
        assert "same input" in refused(tmp_path, "2.text=a", "Text.text=b")

    @pytest.mark.parametrize("text", ["2.text", "=x", ""])
    def test_no_assignment(self, tmp_path, text):
        assert "sets nothing" in refused(tmp_path, text)

    @pytest.mark.parametrize("text", ["9.text=@missing.txt", "9.text=a"])
    def test_an_address_that_fits_nothing(self, tmp_path, text):
        (tmp_path / "missing.txt").write_text("it is there")
        assert refused(tmp_path, text) == "9.text fits no node"


class TestSeveralMistakes:
    def test_all_are_told_at_once(self, tmp_path):
        lines = refused(tmp_path, "9.text=a", "2.count=12", "2.text=fine", "1.image=@missing.png").splitlines()
        assert lines[0] == "3 of --set do not fit:"
        assert lines[1].startswith("  - 9.text fits no node")
        assert lines[2].startswith("  - 2.count: ")
        assert lines[3].startswith("  - 1.image: there is no file missing.png")
        assert refused(tmp_path, "2.text", "=x").startswith("2 of --set do not fit:")

    def test_what_fits_only_together_is_no_mistake(self, tmp_path):
        assert refused(tmp_path, "3.mode.words=a", "3.mode=rich", "9.x=1").startswith("9.x fits no node")


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "value"),
        [
            (b"a red fox\n", "a red fox"),
            (b"two\nlines\r\n", "two\nlines"),
            (b"\xef\xbb\xbfbom", "bom"),
            (b'"in quotes"', '"in quotes"'),
            (b"42", "42"),
            (b"", ""),
            (b"\n\n", "\n"),
        ],
    )
    def test_a_text_comes_as_it_stands_there(self, tmp_path, content, value):
        (tmp_path / "prompt.txt").write_bytes(content)
        assert apply(tmp_path, "2.text=@prompt.txt")["2"]["text"] == value

    def test_a_number(self, tmp_path):
        (tmp_path / "n").write_text("7\n")
        assert apply(tmp_path, "2.count=@n")["2"]["count"] == 7

    def test_for_an_input_that_its_own_option_brings(self, tmp_path):
        (tmp_path / "words").write_text("many")
        assert apply(tmp_path, "3.mode=rich", "3.mode.words=@words")["3"] == {"mode": "rich", "mode.words": "many"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "cannot read f: no such file or directory"), (b"\xff\xfe\x00", "f is no text in UTF-8")],
    )
    def test_a_file_that_cannot_be_read(self, tmp_path, content, message):
        if content is not None:
            (tmp_path / "f").write_bytes(content)
        assert message in refused(tmp_path, "2.text=@f")

    def test_a_folder(self, tmp_path):
        assert "is a directory" in refused(tmp_path, "2.text=@.")


class TestUploads:
    def test_a_local_file_becomes_its_path(self, tmp_path):
        (tmp_path / "photo.png").write_bytes(b"x")
        for text in ("1.image=photo.png", "1.image=@photo.png"):
            assert apply(tmp_path, text)["1"]["image"] == str(tmp_path / "photo.png")

    def test_another_name_is_the_servers(self, tmp_path):
        assert apply(tmp_path, "1.image=on_the_server.png")["1"]["image"] == "on_the_server.png"

    def test_a_file_that_must_be_there(self, tmp_path):
        assert refused(tmp_path, "1.image=@photo.png") == "1.image: there is no file photo.png"

    def test_names_that_no_file_can_have(self, tmp_path):
        assert apply(tmp_path, "1.image=" + "x" * 5000)["1"]["image"] == "x" * 5000
        assert apply(tmp_path, "1.image=a\0b")["1"]["image"] == "a\0b"


def test_what_is_set_is_known_by_node_id(tmp_path):
    assignments = Assignments(make_app(tmp_path), ["Text.count=3", "2.text=x"])
    assert assignments.places(PROMPT, CATALOG) == {"2.count", "2.text"}
    assert assignments
    assert not Assignments(make_app(tmp_path), [])
