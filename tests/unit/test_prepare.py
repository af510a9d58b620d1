"""What is made of a workflow before it is sent; here the parts that need no instance."""

import json
from pathlib import Path

import pytest

from comfyclient.encoding import check_prompt_id, encode_prompt, new_prompt_id
from comfyclient.errors import ConfigError, Problem
from comfyclient.prepare import LocalFile, build, find_local_files, not_yet_there, seeds_of
from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.prompt import Prompt

CATALOG = Catalog.from_json(
    {
        "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
        "Sampler": {"input": {"required": {"seed": ["INT", {"control_after_generate": True}], "steps": ["INT", {}]}}},
    }
)


def loading(value, class_type="LoadImage"):
    return Prompt({"1": {"class_type": class_type, "inputs": {"image": value}}})


def found(value, folder, *, before=None):
    prompt = loading(value)
    return [file.path for file in find_local_files(before or prompt, prompt, CATALOG, folder)]


def test_files_of_the_workflow_are_looked_for_in_its_folder_only(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "wf", tmp_path / "cwd"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "a.png").touch()
    (elsewhere / "b.png").touch()
    monkeypatch.chdir(elsewhere)
    assert found("a.png", folder) == [folder / "a.png"]
    assert found("b.png", folder) == []
    assert found("../cwd/b.png", folder) == []
    assert found(str(elsewhere / "b.png"), folder) == []
    assert found("a.png", None) == []


def test_what_the_user_set_may_be_anywhere(tmp_path, monkeypatch):
    folder, elsewhere = tmp_path / "wf", tmp_path / "cwd"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "a.png").touch()
    (elsewhere / "b.png").touch()
    monkeypatch.chdir(elsewhere)
    before = loading("old.png")
    assert found("b.png", folder, before=before) == [Path("b.png")]
    assert found(str(elsewhere / "b.png"), folder, before=before) == [elsewhere / "b.png"]
    assert found("a.png", folder, before=before) == [folder / "a.png"]


@pytest.mark.parametrize("value", ["x" * 5000, "nul\0.png", "", "a.png [output]", "a.png [temp]", ["5", 0], None, 7])
def test_values_that_name_no_local_file(tmp_path, value):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.png [output]").touch()
    assert found(value, tmp_path) == []
    assert found(value, tmp_path, before=loading("old.png")) == []


def kind_catalog(option):
    return Catalog.from_json({"Load": {"input": {"required": {"x": [["a"], {option: True}]}}}})


@pytest.mark.parametrize(
    ("option", "fitting", "other"),
    [
        ("image_upload", ["a.png", "b.JPG", "c.webp", "d.avif"], ["a.txt", "id_rsa", "b.mp4", "c.json", "png"]),
        ("animated_image_upload", ["a.gif"], ["a.pem"]),
        ("video_upload", ["a.mp4", "b.webm", "c.gif"], ["a.png", "b.key"]),
        ("audio_upload", ["a.wav", "b.flac", "c.mp4"], ["a.png", "b.sqlite"]),
        ("file_upload", ["a.glb", "b.obj", "c.usdz"], ["a.docx", "b.png", ".netrc"]),
    ],
)
def test_a_workflow_sends_only_what_its_input_takes(tmp_path, option, fitting, other):
    for name in (*fitting, *other):
        (tmp_path / name).touch()

    def sent(name, before=None):
        prompt = Prompt({"1": {"class_type": "Load", "inputs": {"x": name}}})
        return find_local_files(before or prompt, prompt, kind_catalog(option), tmp_path)

    assert all(sent(name) for name in fitting)
    assert not any(sent(name) for name in other)
    mine = Prompt({"1": {"class_type": "Load", "inputs": {"x": "old"}}})
    assert all(sent(name, mine) for name in other)  # the user's own choice


def test_a_workflow_sends_nothing_hidden(tmp_path):
    for place in (".ssh/key.png", "a/.b/c.png", ".d.png", "e/f.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "link.png").symlink_to(tmp_path / ".ssh" / "key.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "picture.png").symlink_to(tmp_path / "notes.txt")
    for value in (".ssh/key.png", "a/.b/c.png", ".d.png", "e/../.d.png", "link.png", "picture.png"):
        assert found(value, tmp_path) == []
        assert found(value, tmp_path, before=loading("old.png")) == [tmp_path / value]
    assert found("e/f.png", tmp_path) == [tmp_path / "e" / "f.png"]


def test_a_folder_that_is_hidden_itself_is_the_users_choice(tmp_path):
    folder = tmp_path / ".wf"
    folder.mkdir()
    (folder / "a.png").touch()
    assert found("a.png", folder) == [folder / "a.png"]


def test_nodes_that_lack_a_part_name_no_files(tmp_path):
    prompt = Prompt({"1": {"class_type": "LoadImage"}, "2": {"inputs": {"image": "a.png"}}})
    assert find_local_files(prompt, prompt, CATALOG, tmp_path) == []


def test_only_upload_inputs_count(tmp_path):
    (tmp_path / "a.png").touch()
    prompt = loading("a.png", "Unknown")
    assert find_local_files(prompt, prompt, CATALOG, tmp_path) == []


def test_a_file_that_is_yet_to_be_uploaded_is_no_problem():
    files = [LocalFile("1", "image", Path("a.png"))]
    assert not_yet_there(Problem("value_not_in_list", "", "1", input="image"), files)
    assert not not_yet_there(Problem("value_not_in_list", "", "2", input="image"), files)
    assert not not_yet_there(Problem("required_input_missing", "", "1", input="image"), files)


def test_seeds_by_address():
    inputs = {"seed": 5, "steps": 3}
    linked = {"seed": ["1", 0], "steps": 3}
    prompt = Prompt({n: {"class_type": "Sampler", "inputs": i} for n, i in (("57:3", inputs), ("4", linked))})
    assert seeds_of(prompt, CATALOG) == {"57:3.seed": 5}


def test_the_body_of_a_prompt():
    kept = {"class_type": "A", "inputs": {"x": "ü"}, "_meta": {"title": "T"}}
    nodes = {"1": {**kept, "is_changed": [1]}, "2": {"class_type": "B"}}
    plain = json.loads(encode_prompt(Prompt(nodes), prompt_id="p", client_id="c", extra_data={"a": 1}, front=False))
    assert plain == {
        "prompt": {"1": kept, "2": {"class_type": "B", "inputs": {}}},
        "prompt_id": "p",
        "client_id": "c",
        "extra_data": {"a": 1},
    }
    workflow = {"nodes": []}
    extra = {"extra_pnginfo": {"other": 2}}
    full = json.loads(encode_prompt(Prompt({}, workflow), prompt_id="p", client_id="c", extra_data=extra, front=True))
    assert full["extra_data"] == {"extra_pnginfo": {"other": 2, "workflow": workflow}}
    assert full["front"] is True
    assert extra == {"extra_pnginfo": {"other": 2}}


def test_ids_in_the_only_form_that_servers_take():
    assert check_prompt_id(new_prompt_id())
    for bad in ("", "None", new_prompt_id().upper(), new_prompt_id().replace("-", ""), new_prompt_id() + "\n"):
        with pytest.raises(ConfigError):
            check_prompt_id(bad)


def test_a_given_seed_repeats_the_choice_of_dynamic_prompts():
    text = "{" + "|".join(map(str, range(1000))) + "}"
    workflow = {
        "nodes": [{"id": 1, "type": "CLIPTextEncode", "mode": 0, "widgets_values": [text]}],
        "links": [],
        "version": 0.4,
    }
    catalog = Catalog.bundled()

    def chosen(seed):
        return build(workflow, catalog, seed=seed)[1].nodes["1"]["inputs"]["text"]

    assert chosen(7) == chosen(7)
    assert len({chosen(seed) for seed in range(20)}) > 1
