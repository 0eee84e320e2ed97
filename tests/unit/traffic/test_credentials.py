"""Files that hold a secret: who may read them, and what they may say."""

from pathlib import Path

import pytest

from mainstay.provision.traffic.credentials import BadSecretFile, read_access_key, read_tsig_key

_SECRET = "c2VjcmV0//c2VjcmV0+w=="


def file_with(directory: Path, text: str, *, mode: int = 0o600) -> Path:
    file = directory / "key"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    "text",
    [
        f'key "mainstay" {{\n\talgorithm hmac-sha256;\n\tsecret "{_SECRET}";\n}};\n',
        f'key mainstay {{ secret "{_SECRET}"; algorithm "HMAC-SHA256."; }};',
        f'# today\n/* for */ key "mainstay" {{ // why\n algorithm hmac-sha256; secret "{_SECRET}"; }};',
    ],
)
def test_a_key_as_tsig_keygen_prints_it(tmp_path: Path, text: str) -> None:
    key = read_tsig_key(file_with(tmp_path, text))
    assert (key.name, key.algorithm, key.secret.reveal()) == ("mainstay", "hmac-sha256", _SECRET)
    assert _SECRET not in repr(key)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_SECRET, "holds no TSIG key; make one with `tsig-keygen NAME > "),
        (f'key "a" {{ secret "{_SECRET}"; }};', "holds no TSIG key"),
        (f'key "a" {{ algorithm hmac-md5; secret "{_SECRET}"; }};', "the algorithm 'hmac-md5' is none of"),
    ],
)
def test_a_file_without_a_key_says_so_and_not_its_content(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadSecretFile) as error:
        read_tsig_key(file_with(tmp_path, text))
    assert said in str(error.value)
    assert _SECRET not in str(error.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = file_with(tmp_path, "", mode=mode)
    for read in (read_tsig_key, read_access_key):
        with pytest.raises(BadSecretFile, match=r"others can read .*: chmod 600 it"):
            read(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadSecretFile, match=r"cannot look at .*: No such file"):
        read_tsig_key(tmp_path / "none")
    with pytest.raises(BadSecretFile, match="is not a file"):
        read_tsig_key(tmp_path)


def test_keys_as_the_aws_tools_keep_them(tmp_path: Path) -> None:
    text = f"[one]\nregion = x\n[default]\naws_access_key_id = AKID%1\naws_secret_access_key = {_SECRET}\n"
    key = read_access_key(file_with(tmp_path, text))
    assert (key.id, key.secret.reveal()) == ("AKID%1", _SECRET)
    assert _SECRET not in repr(key)
    for bad, said in ((f"x = {_SECRET}", "begin it with"), ("[default]\nx = 1", "has no section with")):
        with pytest.raises(BadSecretFile, match=said) as error:
            read_access_key(file_with(tmp_path, bad))
        assert _SECRET not in str(error.value)
        assert error.value.__cause__ is None
