"""Local names: safe for every name that a server may send, and inside the folder for every template."""

import unicodedata
from itertools import islice
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfyclient.errors import ConfigError
from comfyclient.names import FIELDS, Template, alternatives, safe_name
from comfyclient.result import _Names

VALUES = {
    "filename": "ComfyUI_00001_.png",
    "stem": "ComfyUI_00001_",
    "ext": "png",
    "subfolder": "rec/a",
    "prompt_id": "89bfa70e-366e-49b1-801c-5461576a5d92",
    "node": "57:9",
    "title": "Save / Image",
    "class": "SaveImage",
    "kind": "images",
    "type": "output",
    "index": 2,
    "number": 7,
    "seed": 42,
    "date": "2026-01-31",
    "time": "23-59-59",
}

hostile = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="./\\ :-~\x00\u202e\u0301aé🦊", max_size=60),
    st.sampled_from(["con", "NUL.txt", "com1.tar.gz", "Lpt¹", "..", ".", "", "a/../b", "..\\..\\x", "-rf", "a. . ."]),
)


@given(hostile)
@example("🦊" * 100 + ".png")
@example("\ud800.png")
@example("a" * 300)
def test_a_safe_name_is_one_ordinary_name_on_every_system(name):
    safe = safe_name(name)
    assert safe not in {"", ".", ".."}
    assert PurePosixPath(safe).parts == (safe,)
    assert PureWindowsPath(safe).parts == (safe,)
    assert not PureWindowsPath(safe).drive
    assert safe[0] not in "-.~ "
    assert safe[-1] not in ". "
    assert safe.split(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1", "LPT¹"}
    assert len(safe.encode()) <= 200
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in safe)
    assert unicodedata.normalize("NFC", safe) == safe


@given(hostile)
def test_what_is_safe_stays_as_it_is(name):
    assert safe_name(safe_name(name)) == safe_name(name)


@pytest.mark.parametrize("name", ["ComfyUI_00001_.png", "a b (1).webp", "фото 1.png", "vid.mp4", "no_extension"])
def test_ordinary_names_are_kept(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("a\\b\\c.png", "c.png"),
        ("x.png:evil", "x.png_evil"),
        ("nul.png", "_nul.png"),
        (".bashrc", "_.bashrc"),
        ("-rf", "_-rf"),
        ("a.png. ", "a.png"),
        ("..", "unnamed"),
        ("e\u0301.png", "é.png"),
    ],
)
def test_known_attacks(name, safe):
    assert safe_name(name) == safe


def test_a_long_name_keeps_its_extension():
    assert safe_name("x" * 500 + ".safetensors").endswith("x.safetensors")


@given(hostile)
def test_alternatives_are_safe_and_distinct(name):
    names = list(islice(alternatives(safe_name(name)), 12))
    assert len(set(names)) == len(names)
    assert all(safe_name(other) == other for other in names)


def test_alternatives_number_before_the_extension():
    assert list(islice(alternatives("a.png"), 3)) == ["a.png", "a (1).png", "a (2).png"]


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("{filename}", ("ComfyUI_00001_.png",)),
        ("{prompt_id}/{filename}", (VALUES["prompt_id"], "ComfyUI_00001_.png")),
        ("{subfolder}/{stem}.{ext}", ("rec", "a", "ComfyUI_00001_.png")),
        ("{node}_{index:03}", ("57_9_002.png",)),
        ("{title}-{seed}-{number}", ("Save _ Image-42-7.png",)),
        ("{date}/{time}_{class}_{kind}.{ext}", ("2026-01-31", "23-59-59_SaveImage_images.png")),
        ("{{x}}.{ext}", ("{x}.png",)),
    ],
)
def test_templates(template, parts):
    assert Template(template).render(VALUES) == parts


@given(st.fixed_dictionaries({name: hostile for name in FIELDS if name not in {"index", "number", "seed"}}))
def test_no_value_leads_out_of_the_folder(values):
    template = Template("{subfolder}/{title}/{filename}")
    parts = template.render({**VALUES, **values})
    assert 1 <= len(parts) <= 16
    assert all(safe_name(part) == part for part in parts)


@pytest.mark.parametrize(
    "template", ["{nope}", "{filename!r}", "{filename.__class__}", "{title:>10}", "{index:.2f}", "{", "../{filename}",
                 "/abs/{filename}", "C:\\{filename}", "a/../{filename}", "{index:999}", "{0}", "{}"],
)  # fmt: skip
def test_templates_that_make_no_sense(template):
    with pytest.raises(ConfigError):
        Template(template)


def test_an_unknown_field_lists_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        Template("{name}.png")
    assert "{name}" in str(caught.value)
    assert "{prompt_id}" in (caught.value.hint or "")


@given(st.text(max_size=30), st.integers(0, 5))
def test_alternatives_can_be_taken_up_again(name, number):
    everything = list(islice(alternatives(name), 10))
    assert list(islice(alternatives(name, after=number), 9 - number)) == everything[number + 1 :]


class CountingSet(set):
    """Counts how often it is asked."""

    asked = 0

    def __contains__(self, item):
        self.asked += 1
        return super().__contains__(item)


def test_a_thousand_files_of_one_name_are_named_without_trying_every_number():
    names = _Names()
    names._claimed = claimed = CountingSet()
    found = [names.claim(("a", "same.png")) for _ in range(1000)]
    assert found[:2] == [("a", "same.png"), ("a", "same (1).png")]
    assert found[-1] == ("a", "same (999).png")
    assert claimed.asked <= 2000


def test_names_that_look_like_alternatives_are_not_given_twice():
    names = _Names()
    wanted = ["x (1).png", "x.png", "X.PNG", "x.png", "x (1).png", "x.png"]
    found = [names.claim((name,))[0] for name in wanted]
    assert len({name.casefold() for name in found}) == len(wanted)
    assert found[:2] == ["x (1).png", "x.png"]
