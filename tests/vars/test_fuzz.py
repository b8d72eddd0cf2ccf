"""Whatever lies in the clan's folder, or is typed, is read or refused; nothing else happens."""

from __future__ import annotations

import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from clan.errors import ClanError
from clan.vars.admins import Admin, read_admins, write_record
from clan.vars.age import recipient
from clan.vars.folder import Kept, Meta, load, parse_meta, save, write_meta
from clan.vars.names import find, is_plain, parse, var_id
from clan.vars.rotation import _parse

PLAIN = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=12).filter(
    is_plain
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.sampled_from(
    ["serial", "made", "version", "inputs", "depends", "recipients", "due", "what", "replace"]
)
METAS = st.builds(
    Meta,
    serial=st.text(),
    made=st.text(),
    version=st.none() | st.integers(),
    inputs=st.none() | st.text(),
    depends=st.dictionaries(st.text(), st.text()),
    recipients=st.dictionaries(PLAIN, st.lists(st.text()).map(tuple)),
    due=st.none() | st.text(),
)


@given(st.text() | st.lists(PLAIN, max_size=4).map("/".join))
def test_an_id_is_read_and_written_again_or_refused(text: str) -> None:
    try:
        var = parse(text)
    except ClanError:
        return
    assert var_id(var) == text
    assert ".." not in text.split("/")


@given(st.text(max_size=30), st.lists(st.tuples(PLAIN, PLAIN, PLAIN), max_size=5))
def test_an_id_names_a_var_that_is_there_or_is_refused(
    text: str, rows: list[tuple[str, str, str]]
) -> None:
    there = [parse("/".join(row)) for row in rows]
    for typed in (text, *map(var_id, there)):
        try:
            assert find(typed, there) in there
        except ClanError:
            assert typed == text


@given(METAS)
def test_a_meta_is_read_as_it_was_written(meta: Meta) -> None:
    assert parse_meta(write_meta(meta), "meta.json") == meta


@given(
    st.binary()
    | JSON.map(json.dumps).map(str.encode)
    | st.dictionaries(FIELDS, JSON).map(json.dumps).map(str.encode)
)
def test_what_is_no_meta_is_refused(data: bytes) -> None:
    for read in (lambda: parse_meta(data, "x"), lambda: _parse(data, Path("x"))):
        try:
            read()
        except ClanError:
            continue


@given(
    st.text(max_size=80) | st.text().map("ssh-ed25519 {}".format) | st.text().map("age1{}".format)
)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    try:
        assert recipient(text)
    except ClanError:
        return
    assert text.isascii()


@given(st.dictionaries(PLAIN, st.binary()), st.dictionaries(PLAIN, st.binary()), METAS)
def test_a_folder_is_read_as_it_was_saved(
    files: dict[str, bytes], secrets: dict[str, bytes], meta: Meta
) -> None:
    kept = Kept(meta=meta, files=files, secrets=secrets)
    with TemporaryDirectory() as place:
        taken = {"meta.json"}
        if taken & {*files, *secrets}:
            return
        for state in (Kept(), kept):
            save(Path(place, "token"), state)
            assert load(Path(place, "token")) == state


@given(st.text(), st.booleans())
def test_an_admins_record_is_read_as_it_was_written(key: str, leaving: bool) -> None:
    admin = Admin(name="ben", key=key, leaving=leaving)
    with TemporaryDirectory() as place:
        Path(place, "admins").mkdir()
        Path(place, "admins/ben.toml").write_bytes(write_record(admin))
        assert read_admins(Path(place)) == {"ben": admin}
