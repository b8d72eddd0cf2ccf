"""The text under edit, in every style that TOML and JSON can be written in."""

from __future__ import annotations

from textwrap import dedent

import pytest

from clan.errors import ClanError
from clan.inventory.document import Document

# What the file is before, and after `machines.nas` is renamed to `box`, removed, and after
# `machines.pi` with one tag is added.
STYLES = {
    "headers": (
        """
        # The NAS. Backups go here.
        [machines.nas]  # in the basement
        tags = ["a"]
        # inside
        deploy.targetHost = "x"
        # after

        # The laptop
        [machines.laptop]
        [instances.lan]
        """,
        """
        # The NAS. Backups go here.
        [machines.box]  # in the basement
        tags = ["a"]
        # inside
        deploy.targetHost = "x"
        # after

        # The laptop
        [machines.laptop]
        [instances.lan]
        """,
        """
        # The NAS. Backups go here.
        # after

        # The laptop
        [machines.laptop]
        [instances.lan]
        """,
        """
        # The NAS. Backups go here.
        [machines.nas]  # in the basement
        tags = ["a"]
        # inside
        deploy.targetHost = "x"
        # after

        # The laptop
        [machines.laptop]

        [machines.pi]
        tags = ["b"]

        [instances.lan]
        """,
    ),
    "subtables, out of order, the only machine": (
        """
        [machines.nas.deploy]
        targetHost = "x"

        [meta]
        name = "home"

        [machines.nas]
        tags = []
        """,
        """
        [machines.box.deploy]
        targetHost = "x"

        [meta]
        name = "home"

        [machines.box]
        tags = []
        """,
        """
        [machines]

        [meta]
        name = "home"
        """,
        """
        [machines.nas.deploy]
        targetHost = "x"

        [meta]
        name = "home"

        [machines.nas]
        tags = []

        [machines.pi]
        tags = ["b"]
        """,
    ),
    "lines of inline tables": (
        """
        [machines]
        nas    = { tags = ["a"] }   # old
        laptop = {}

        [meta]
        name = "home"
        """,
        """
        [machines]
        box    = { tags = ["a"] }   # old
        laptop = {}

        [meta]
        name = "home"
        """,
        """
        [machines]
        laptop = {}

        [meta]
        name = "home"
        """,
        """
        [machines]
        nas    = { tags = ["a"] }   # old
        laptop = {}
        pi = { tags = ["b"] }

        [meta]
        name = "home"
        """,
    ),
    "one inline table": (
        """
        machines = { "nas" = { tags = ['a'] }, laptop = {} } # all
        """,
        """
        machines = { "box" = { tags = ['a'] }, laptop = {} } # all
        """,
        """
        machines = { laptop = {} } # all
        """,
        """
        machines = { "nas" = { tags = ['a'] }, laptop = {}, pi = { tags = ["b"] } } # all
        """,
    ),
    "dotted keys, quoted": (
        """
        'machines'.'nas'.tags = [] # one
        machines . "nas" . description = "machines.nas"
        meta.name = "home"
        """,
        """
        'machines'.'box'.tags = [] # one
        machines . "box" . description = "machines.nas"
        meta.name = "home"
        """,
        """
        'machines' = {} # one
        meta.name = "home"
        """,
        """
        'machines'.'nas'.tags = [] # one
        machines . "nas" . description = "machines.nas"
        machines.pi.tags = ["b"]
        meta.name = "home"
        """,
    ),
    "below inventory": (
        """
        [inventory]
        machines.nas = {}
        meta.name = "home"
        """,
        """
        [inventory]
        machines.box = {}
        meta.name = "home"
        """,
        """
        [inventory]
        machines = {}
        meta.name = "home"
        """,
        """
        [inventory]
        machines.nas = {}
        machines.pi = { tags = ["b"] }
        meta.name = "home"
        """,
    ),
    "json": (
        """
        {
            "machines": {
                "nas": {"tags": ["a"]},
                "laptop": {}
            },
            "meta": { "name" : "home" }
        }
        """,
        """
        {
            "machines": {
                "box": {"tags": ["a"]},
                "laptop": {}
            },
            "meta": { "name" : "home" }
        }
        """,
        """
        {
            "machines": {
                "laptop": {}
            },
            "meta": { "name" : "home" }
        }
        """,
        """
        {
            "machines": {
                "nas": {"tags": ["a"]},
                "laptop": {},
                "pi": {
                    "tags": [
                        "b"
                    ]
                }
            },
            "meta": { "name" : "home" }
        }
        """,
    ),
    "json on one line": (
        '{"machines": {"laptop": {}, "n\\u0061s": {}}}',
        '{"machines": {"laptop": {}, "box": {}}}',
        '{"machines": {"laptop": {}}}',
        '{"machines": {"laptop": {}, "n\\u0061s": {}, "pi": { "tags": [ "b" ] }}}',
    ),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("style", STYLES)
def test_an_edit_keeps_the_style_and_all_else(style: str, newline: str) -> None:
    texts = [dedent(text).lstrip("\n").replace("\n", newline).encode() for text in STYLES[style]]
    before, renamed, removed, added = texts
    language = "json" if style.startswith("json") else "toml"
    base = ("inventory", "machines") if "inventory" in style else ("machines",)

    document = Document(language, before)
    document.rename(keys={(*base, "nas"): "box"}, values={})
    assert document.text.decode() == renamed.decode()

    document = Document(language, before)
    document.remove((*base, "nas"))
    assert document.text.decode() == removed.decode()

    document = Document(language, before)
    document.add(base, "pi", {"tags": ["b"]})
    assert document.text.decode() == added.decode()


@pytest.mark.parametrize(
    ("before", "index", "after"),
    [
        ('a = ["x"]', 0, "a = []"),
        ('a = [ "x", ]', 0, "a = []"),
        ('a = ["x", "y", "z"] # c', 1, 'a = ["x", "z"] # c'),
        ('a = ["x", "y"]', 1, 'a = ["x"]'),
        ('a = ["x", "y"]', 0, 'a = ["y"]'),
        ('a = [\n  "x", # 1\n  "y", # 2\n]', 0, 'a = [\n  "y", # 2\n]'),
        ('a = [\n  "x", # 1\n  "y" # 2\n]', 1, 'a = [\n  "x" # 1\n]'),
        ('a = [\n  # x\n  "x",\n  # y\n  "y",\n]', 1, 'a = [\n  # x\n  "x",\n  # y\n]'),
        ('a = [ # all\n  "x" ]', 0, "a = [ # all\n  ]"),
        ('a = ["x",\n     "y"]', 1, 'a = ["x"]'),
        ('a = [["x"], "y"]', 0, 'a = ["y"]'),
    ],
)
def test_an_element_goes_with_its_comma_and_its_own_line(
    before: str, index: int, after: str
) -> None:
    document = Document("toml", before.encode())
    document.remove(("a", index))
    assert document.text.decode() == after


def test_strings_keep_their_quotes() -> None:
    document = Document("toml", b"""a = 'nas'\nb = "nas"\nc = ['nas', '''nas''']\n""")
    document.rename(
        keys={}, values={("a",): "box", ("b",): "box", ("c", 0): "it's", ("c", 1): "\x7f"}
    )
    assert document.text == b"""a = 'box'\nb = "box"\nc = ["it's", "\\u007f"]\n"""


def test_a_role_whose_last_machine_goes_stays() -> None:
    document = Document("toml", b"[instances.vpn.roles.peer.machines.nas.settings]\nport = 1\n")
    document.remove(("instances", "vpn", "roles", "peer", "machines", "nas"))
    assert document.text == b"[instances.vpn.roles.peer.machines]\n"


def test_a_role_whose_last_machine_with_settings_goes_stays() -> None:
    document = Document("toml", b"[roles]\nm.nas = { a = { b = 1 } } # c\n")
    document.remove(("roles", "m", "nas"))
    assert document.text == b"[roles]\nm = {} # c\n"


def test_a_file_without_machines_gets_its_first() -> None:
    for language, before, after in [
        ("toml", b"", b"[machines.pi]\n"),
        ("toml", b"# mine", b"# mine\n\n[machines.pi]\n"),
        ("toml", b"machines = {}\n", b"machines = { pi = {} }\n"),
        ("toml", b"[machines]\n", b"[machines]\n\n[machines.pi]\n"),
        ("json", b"{}", b'{\n  "machines": {\n    "pi": {}\n  }\n}'),
    ]:
        document = Document(language, before)
        document.add(("machines",), "pi", {})
        assert document.text == after


def test_a_byte_order_mark_stays() -> None:
    document = Document("toml", "\ufeff[machines.nas]\n".encode())
    document.rename(keys={("machines", "nas"): "box"}, values={})
    assert document.text == "\ufeff[machines.box]\n".encode()


def test_what_cannot_be_done_in_this_style_is_refused_and_nothing_changes() -> None:
    text = b"[[a]]\nb = 1\n[[a]]\nb = 2\n"
    document = Document("toml", text)
    with pytest.raises(ClanError, match="without disturbing"):
        document.remove(("a", 0))
    assert document.text == text
