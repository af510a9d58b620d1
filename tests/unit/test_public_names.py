"""The public names: complete, each once, and free until they are used."""

import subprocess
import sys

import comfyclient


def test_every_public_name_can_be_loaded():
    for name in comfyclient.__all__:
        assert getattr(comfyclient, name) is not None
    assert dir(comfyclient) == sorted(comfyclient.__all__)
    assert len(comfyclient.__all__) == len(set(comfyclient.__all__))


def test_every_error_is_public():
    from comfyclient import errors

    assert set(errors.__all__) <= set(comfyclient.__all__)


def test_what_is_not_there_is_told_as_usual():
    assert not hasattr(comfyclient, "nope")


def test_importing_the_package_costs_nothing():
    code = (
        "import comfyclient, sys; print([m for m in sys.modules if m.split('.')[0] in {'aiohttp', 'pydantic', 'yarl'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
