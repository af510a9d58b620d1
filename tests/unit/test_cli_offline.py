"""What needs no instance: convert, inputs, nodes."""

import gzip
import json
import os

import pytest

from comfyclient.workflow.catalog import Catalog
from comfyclient.workflow.document import Workflow

from ..cli_support import WORKFLOWS, make_app, run  # noqa: TID252

QUICKSTART = WORKFLOWS / "quickstart.json"


def go(folder, *args, **rest):
    return run(make_app(folder, **rest), *args)


class TestConvert:
    def test_to_stdout(self, tmp_path):
        found = go(tmp_path, "convert", QUICKSTART)
        assert (found.code, found.err) == (0, "")
        assert found.json["2"]["inputs"] == {"image": ["1", 0], "seed": 20260131, "strength": 0.25}
        assert found.out.startswith('{\n  "1": {')

    def test_from_stdin(self, tmp_path):
        assert go(tmp_path, "convert", "-", stdin=QUICKSTART.read_bytes()).json["4"]["class_type"] == "SaveImage"

    def test_to_a_file(self, tmp_path):
        (tmp_path / "p.json").write_text("old")
        assert go(tmp_path, "convert", QUICKSTART, "-o", "p.json").out == ""
        assert json.loads((tmp_path / "p.json").read_text())["1"]["class_type"] == "EmptyImage"
        assert go(tmp_path, "convert", QUICKSTART, "-o", "new/folder/p.json").code == 0
        assert os.listdir(tmp_path / "new/folder") == ["p.json"]  # noqa: PTH208

    def test_what_is_converted_converts_to_itself(self, tmp_path):
        first = go(tmp_path, "convert", QUICKSTART).out
        assert go(tmp_path, "convert", "-", stdin=first.encode()).out == first

    def test_values_and_seeds(self, tmp_path):
        found = go(
            tmp_path, "convert", QUICKSTART, "--set", "Clouds.strength=0.5", "--set", "1.width=20", "--seed", "7"
        )
        assert found.json["2"]["inputs"]["strength"] == 0.5
        assert found.json["2"]["inputs"]["seed"] == 7
        assert found.json["1"]["inputs"]["width"] == 20

    def test_a_seed_that_is_set_by_hand_stays(self, tmp_path):
        found = go(tmp_path, "convert", QUICKSTART, "--set", "2.seed=5", "--seed", "7")
        assert found.json["2"]["inputs"]["seed"] == 5

    def test_a_given_seed_decides_dynamic_prompts(self, tmp_path):
        options = "|".join(map(str, range(100)))
        document = json.loads((WORKFLOWS / "txt2img.json").read_text())
        next(n for n in document["nodes"] if n["id"] == 6)["widgets_values"] = [f"{{{options}}}"]
        (tmp_path / "w.json").write_text(json.dumps(document))

        def text(*args):
            return go(tmp_path, "convert", "w.json", *args).json["6"]["inputs"]["text"]

        assert text("--seed", "1") == text("--seed", "1")
        assert len({text() for _ in range(5)} | {text("--seed", str(seed)) for seed in range(5)}) > 1

    def test_warnings_go_to_stderr(self, tmp_path):
        document = json.loads(QUICKSTART.read_text().replace('"ImageAddNoise"', '"NotThere"'))
        (tmp_path / "w.json").write_text(json.dumps(document))
        found = go(tmp_path, "convert", "w.json")
        assert found.code == 0
        assert "2" in found.json
        assert found.err.startswith("warning: w.json: node 2: ")

    @pytest.mark.parametrize("release", ["1.27", "1.49.6", "1.58"])
    def test_releases(self, tmp_path, release):
        assert go(tmp_path, "convert", QUICKSTART, "--frontend", release).json["2"]["inputs"]["seed"] == 20260131

    def test_no_release(self, tmp_path):
        found = go(tmp_path, "convert", QUICKSTART, "--frontend", "newest")
        assert (found.code, found.out) == (2, "")


class TestConvertMany:
    def test_one_bad_file_does_not_stop_the_others(self, tmp_path):
        (tmp_path / "bad.json").write_text("{")
        files = [QUICKSTART, "bad.json", "missing.json", WORKFLOWS / "api.json"]
        found = go(tmp_path, "convert", *files, "--output-dir", "prompts")
        assert found.code == 3
        assert sorted(os.listdir(tmp_path / "prompts")) == ["api.json", "quickstart.json"]  # noqa: PTH208
        errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
        assert ["bad.json" in errors[0], "missing.json" in errors[1], len(errors)] == [True, True, 2]
        assert found.err.splitlines()[-1] == "2 of 4 files could not be converted"

    def test_verbose_tells_each_file(self, tmp_path):
        found = go(tmp_path, "convert", QUICKSTART, "--output-dir", "p", "-v")
        assert f"{QUICKSTART}: wrote {tmp_path / 'p/quickstart.json'}" in found.err.splitlines()
        assert go(tmp_path, "convert", QUICKSTART, "--output-dir", "q").err == ""

    def test_two_files_of_one_name(self, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub/quickstart.json").write_bytes((WORKFLOWS / "txt2img.json").read_bytes())
        found = go(tmp_path, "convert", QUICKSTART, "sub/quickstart.json", "--output-dir", "p")
        assert found.code == 7
        assert "was made of" in found.err
        assert "KSampler" not in (tmp_path / "p/quickstart.json").read_text()

    def test_nothing_is_replaced_unless_asked_for(self, tmp_path):
        (tmp_path / "p").mkdir()
        (tmp_path / "p/quickstart.json").write_text("mine")
        found = go(tmp_path, "convert", QUICKSTART, "--output-dir", "p")
        assert (found.code, (tmp_path / "p/quickstart.json").read_text()) == (7, "mine")
        assert "--overwrite" in found.err
        assert go(tmp_path, "convert", QUICKSTART, "--output-dir", "p", "--overwrite").code == 0
        assert (tmp_path / "p/quickstart.json").read_text() != "mine"

    @pytest.mark.parametrize("where", [["--output-dir", "."], ["--output-dir", ".", "--overwrite"], ["-o", "w.json"]])
    def test_a_workflow_is_never_replaced_by_its_prompt(self, tmp_path, where):
        (tmp_path / "w.json").write_bytes(QUICKSTART.read_bytes())
        found = go(tmp_path, "convert", "w.json", *where)
        assert found.code == 7
        assert "is the workflow itself" in found.err
        assert (tmp_path / "w.json").read_bytes() == QUICKSTART.read_bytes()

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "f").write_text("")
        found = go(tmp_path, "convert", QUICKSTART, "--output-dir", "f")
        assert (found.code, found.out) == (7, "")
        assert go(tmp_path, "convert", QUICKSTART, "-o", ".").code == 7
        assert go(tmp_path, "convert", QUICKSTART, "-o", "f/p.json").code == 7

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")  # noqa: PTH110
    def test_a_full_disk(self, tmp_path):
        found = go(tmp_path, "convert", QUICKSTART, "-o", "/dev/full")
        assert (found.code, found.err) == (7, "error: cannot write /dev/full: no space left on device\n")


class TestBadInput:
    @pytest.mark.parametrize("command", ["convert", "inputs", "queue"])
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "no such file"),
            (b"", "empty"),
            (b"hello", "not JSON"),
            (b"[1, 2]", "a list, not a workflow"),
            (b'{"a": 1}', "not a workflow"),
            (QUICKSTART.read_bytes()[:700], "breaks off"),
            ((WORKFLOWS / "input.png").read_bytes(), "without a workflow"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"[" * 100_000, "nested too deep"),
        ],
    )
    def test_what_is_no_workflow_is_one_line_and_3(self, tmp_path, command, content, says):
        if content is not None:
            (tmp_path / "w").write_bytes(content)
        found = go(tmp_path, command, "w", "--json") if command != "convert" else go(tmp_path, command, "w")
        error, *hint = found.err.splitlines()
        assert found.code == 3
        assert error.startswith("error: ")
        assert says in error
        assert len(hint) <= 1
        if command != "convert":
            assert found.json["error"]["code"] == "workflow_unreadable"

    @pytest.mark.parametrize(
        ("assignment", "says"),
        [
            ("9.text=x", "9.text fits no node"),
            ("1.nothing=x", "has no input 'nothing'"),
            ("1.width=wide", "takes an integer"),
            ("3.crop=upper", "takes one of"),
            ("width=3", "is no address"),
        ],
    )
    def test_what_cannot_be_set(self, tmp_path, assignment, says):
        found = go(tmp_path, "convert", QUICKSTART, "--set", assignment)
        assert found.code == 3
        assert says in found.err.splitlines()[0]

    @pytest.mark.parametrize("content", [None, b"", b"{}", b'{"a": 1}', b"\x1f\x8bxx"])
    def test_what_is_no_catalog(self, tmp_path, content):
        if content is not None:
            (tmp_path / "c").write_bytes(content)
        found = go(tmp_path, "convert", QUICKSTART, "--catalog", "c")
        assert found.code == 3
        assert found.err.startswith("error: c: ")


class TestInputs:
    def test_as_a_table(self, tmp_path):
        found = go(tmp_path, "inputs", WORKFLOWS / "txt2img.json")
        header, *rows = found.out.splitlines()
        assert header.split() == ["ADDRESS", "NODE", "TYPE", "VALUE", "ALLOWED"]
        seed = next(row for row in rows if row.startswith("3.seed "))
        assert "INT (seed)" in seed
        assert seed.endswith("0 to 18446744073709551615")
        sampler = next(row for row in rows if row.startswith("3.sampler_name "))
        assert sampler.endswith(
            "euler, euler_cfg_pp, euler_ancestral, euler_ancestral_cfg_pp, heun, heunpp2, … (44 in all)"
        )

    def test_as_json(self, tmp_path):
        found = {entry["address"]: entry for entry in go(tmp_path, "inputs", WORKFLOWS / "filter.json", "--json").json}
        assert found["1.image"]["upload"] == "image"
        assert found["2.flip_method"]["choices"] == ["x-axis: vertically", "y-axis: horizontally"]

    def test_inside_subgraphs(self, tmp_path):
        assert "3:21.strength" in go(tmp_path, "inputs", WORKFLOWS / "subgraph.json").out

    def test_a_picture(self, tmp_path):
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("workflow", QUICKSTART.read_text())
        Image.new("RGB", (8, 8)).save(tmp_path / "p.png", pnginfo=info)
        assert "2.seed" in go(tmp_path, "inputs", "p.png").out

    def test_nothing_to_set(self, tmp_path):
        prompt = {"1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}}}
        found = go(tmp_path, "inputs", "-", stdin=json.dumps(prompt).encode())
        assert (found.code, found.out, found.err) == (0, "", "nothing can be set in this workflow\n")


class TestNodes:
    def test_list(self, tmp_path):
        assert len(go(tmp_path, "nodes", "list").out.splitlines()) == len(Catalog.bundled()) + 1

    @pytest.mark.parametrize(
        ("pattern", "there", "not_there"),
        [
            ("ksampler", "KSamplerAdvanced", "VAEDecode"),
            ("Load*", "LoadImage", "KSampler"),
            ("image/color", "ImageInvert", "SaveImage"),
        ],
    )
    def test_pattern(self, tmp_path, pattern, there, not_there):
        found = {entry["name"] for entry in go(tmp_path, "nodes", "list", pattern, "--json").json}
        assert there in found
        assert not_there not in found

    def test_no_match(self, tmp_path):
        found = go(tmp_path, "nodes", "list", "xyzzy")
        assert (found.code, found.out, found.err) == (0, "", "no node class fits 'xyzzy'\n")
        assert go(tmp_path, "nodes", "list", "xyzzy", "--json").json == []

    def test_show(self, tmp_path):
        shown = go(tmp_path, "nodes", "show", "KSampler").out
        assert "steps         INT           yes     20       1 to 10000" in shown
        found = go(tmp_path, "nodes", "show", "KSampler", "--json").json
        seed = next(entry for entry in found["inputs"] if entry["name"] == "seed")
        assert seed == {
            "name": "seed", "type": "INT", "required": True, "default": 0, "min": 0, "max": 2**64 - 1, "is_seed": True
        }  # fmt: skip
        assert found["outputs"] == [{"name": "LATENT", "type": "LATENT", "is_list": False}]

    def test_all_kinds_of_classes_can_be_shown(self, tmp_path):
        for name in list(Catalog.bundled())[::25]:
            assert go(tmp_path, "nodes", "show", name).code == 0
            assert go(tmp_path, "nodes", "show", name, "--json").json["name"] == name

    def test_show_another(self, tmp_path):
        found = go(tmp_path, "nodes", "show", "KSamplr")
        assert found.code == 2
        assert "did you mean KSampler" in found.err

    def test_a_snapshot_of_a_file(self, tmp_path):
        definitions = {"A": {"input": {"required": {"x": ["INT", {"tooltip": "prose", "default": 3}]}}, "output": []}}
        (tmp_path / "object_info.json").write_text(json.dumps(definitions))
        found = go(tmp_path, "nodes", "snapshot", "--catalog", "object_info.json")
        assert found.json["nodes"]["A"]["input"]["required"] == {"x": ["INT", {"default": 3}]}
        assert go(tmp_path, "nodes", "snapshot", "--catalog", "object_info.json", "-o", "s.json.gz").code == 0
        assert json.loads(gzip.decompress((tmp_path / "s.json.gz").read_bytes())) == found.json
        assert go(tmp_path, "nodes", "show", "A", "--catalog", "s.json.gz").code == 0


class TestOurWorkflows:
    """The workflows that come with comfyclient."""

    @pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
    def test_each_converts_without_a_word_and_would_run(self, tmp_path, path):
        from comfyclient.workflow.check import check
        from comfyclient.workflow.convert import convert

        found = go(tmp_path, "convert", path)
        assert (found.code, found.err) == (0, "")
        assert check(convert(Workflow.load(path), Catalog.bundled()), Catalog.bundled()) == []

    def test_the_formats(self):
        formats = {path.stem: Workflow.load(path).format for path in WORKFLOWS.glob("*.json")}
        assert formats.pop("api") == "api"
        assert set(formats.values()) == {"ui"}

    def test_a_subgraph_used_twice(self, tmp_path):
        prompt = go(tmp_path, "convert", WORKFLOWS / "subgraph.json").json
        assert list(prompt) == ["1", "4", "2:21", "2:22", "3:21", "3:22"]
        assert [prompt[node]["inputs"]["seed"] for node in ("2:21", "3:21")] == [7, 8]
        assert prompt["3:21"]["inputs"]["image"] == ["2:22", 0]
        assert [prompt[node]["inputs"]["width"] for node in ("2:22", "3:22")] == [48, 768]

    def test_every_link_is_listed_at_both_ends(self):
        """As the page saves it: the links table, the inputs and the outputs say the same."""
        for path in WORKFLOWS.glob("*.json"):
            workflow = Workflow.load(path)
            if workflow.format == "ui":
                nodes = {node["id"]: node for node in workflow.data["nodes"]}
                for link, origin, out, target, into, kind in workflow.data["links"]:
                    assert link in nodes[origin]["outputs"][out]["links"]
                    assert nodes[target]["inputs"][into]["link"] == link
                    assert nodes[origin]["outputs"][out]["type"] == kind
                assert workflow.data["last_node_id"] == max(nodes)
                assert workflow.data["version"] == 0.4
