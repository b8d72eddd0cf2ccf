"""Edits of a clan, in the words of a user: what the file says afterwards."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.errors import ClanError, InventoryError, UsageError
from clan.inventory.apply import faults_of, refuse_new_faults
from clan.inventory.edit import (
    Edit,
    Membership,
    Setting,
    add_instance,
    create_machine,
    delete_machine,
    remove_instance,
    rename_machine,
)
from clan.inventory.load import load_bytes
from clan.inventory.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from clan.model.inventory import Inventory

HERE = Path("/nowhere")
REGISTRY = Registry(HERE)

CLAN = """
    # our clan
    [meta]
    name = "home"

    # always on
    [machines.nas]
    tags = ["server"]   # more to come

    [machines.vps]
    deploy.targetHost = "root@vps.example.com"

    [machines.laptop]

    [instances.vpn]
    module.name = "wireguard"
    roles.controller.machines.vps.settings.endpoint = "vpn.example.com"
    roles.controller.machines.nas.settings.endpoint = "nas.example.com"
    roles.peer.settings.controller = "nas"  # the nearer one
    roles.peer.machines = ["laptop", "laptop"]

    [instances.internet.roles.default]
    machines.vps.settings.jumpHosts = ["me@gate:2222", "nas", "me@nas"]
"""


def clan(text: str = CLAN, language: str = "toml") -> Inventory:
    return load_bytes(HERE / f"clan.{language}", language, dedent(text).encode())


def changed_lines(before: Inventory, edit: Edit) -> list[str]:
    """Return the lines that went (`-`) and came (`+`), as a reader of a diff sees them."""
    old = before.source.text.decode().splitlines()
    new = edit.source.text.decode().splitlines()
    return [line for line in difflib.ndiff(old, new) if line[0] in "+-"]


def test_the_clan_of_these_tests_is_right() -> None:
    assert faults_of(clan().source, REGISTRY) == []


def test_a_new_machine_stands_after_the_last() -> None:
    before = clan()
    edit = create_machine(
        before, "pi", tags=["server", "sever"], description="the Pi", target_host="pi.lan"
    )
    assert changed_lines(before, edit) == [
        "+ [machines.pi]",
        '+ tags = ["server", "sever"]',
        '+ description = "the Pi"',
        '+ deploy.targetHost = "pi.lan"',
        "+ ",
    ]
    assert edit.notes == ("tag 'sever' is new: did you mean 'server'?",)


def test_a_renamed_machine_is_renamed_wherever_it_is_named() -> None:
    before = clan()
    edit = rename_machine(before, REGISTRY, "nas", "box")
    after = dedent(CLAN).replace("nas", "box").replace("box.example.com", "nas.example.com")
    assert edit.source.text.decode() == after
    assert edit.renamed == ("nas", "box")
    refuse_new_faults(before, edit, REGISTRY)


def test_jump_hosts_that_are_machines_follow_a_renaming() -> None:
    edit = rename_machine(clan(), REGISTRY, "nas", "box")
    assert b'jumpHosts = ["me@gate:2222", "box", "me@box"]' in edit.source.text
    assert edit.notes == (
        "instances.vpn.roles.peer.settings.controller follows",
        "instances.internet.roles.default.machines.vps.settings.jumpHosts[1] follows",
        "instances.internet.roles.default.machines.vps.settings.jumpHosts[2] follows",
    )


def test_a_deleted_machine_leaves_the_roles() -> None:
    before = clan()
    edit = delete_machine(before, REGISTRY, "laptop")
    assert changed_lines(before, edit) == [
        "- [machines.laptop]",
        "- ",
        '- roles.peer.machines = ["laptop", "laptop"]',
        "+ roles.peer.machines = []",
    ]
    assert edit.notes == ("removed from the role vpn.peer",)
    refuse_new_faults(before, edit, REGISTRY)


def test_a_machine_that_a_setting_names_is_not_deleted() -> None:
    before = clan()
    with pytest.raises(InventoryError) as caught:
        refuse_new_faults(before, delete_machine(before, REGISTRY, "nas"), REGISTRY)
    assert "instances.vpn.roles.peer.settings.controller" in str(caught.value)
    assert "clan.toml:" not in str(caught.value)
    assert "nothing was changed" in (caught.value.hint or "")


def test_faults_that_are_there_already_keep_nobody_from_editing() -> None:
    before = clan(CLAN + '\n    [instances.lan]\n    roles.default.machines = ["x", "nas"]\n')
    assert faults_of(before.source, REGISTRY)
    for edit in [
        create_machine(before, "pi"),
        rename_machine(before, REGISTRY, "nas", "box"),
        delete_machine(before, REGISTRY, "laptop"),
    ]:
        refuse_new_faults(before, edit, REGISTRY)


def test_a_fault_that_is_put_in_other_words_is_no_new_fault() -> None:
    same = "\n".join(f"machines.{name}.deploy.targetHost = 'h'" for name in "abc")
    before = clan(same)
    assert len(faults_of(before.source, REGISTRY)) == 2
    refuse_new_faults(before, delete_machine(before, REGISTRY, "a"), REGISTRY)
    with pytest.raises(InventoryError):
        refuse_new_faults(before, create_machine(before, "d", target_host="h"), REGISTRY)


def test_an_instance_is_added_with_its_members_and_settings() -> None:
    before = clan()
    edit = add_instance(
        before,
        REGISTRY,
        "onion",
        module="tor",
        members=[
            Membership(role="server", name="server", is_tag=True),
            Membership(role="server", name="laptop"),
        ],
        settings=[
            Setting(key=("priority",), value=5),
            Setting(key=("x", "y"), value="z", role="server", machine="nas"),
        ],
    )
    assert changed_lines(before, edit) == [
        "+ ",
        "+ [instances.onion]",
        '+ module.name = "tor"',
        "+ settings.priority = 5",
        '+ roles.server.machines.nas.settings.x.y = "z"',
        "+ roles.server.machines.laptop = {}",
        "+ roles.server.tags.server = {}",
    ]
    with pytest.raises(InventoryError, match="unknown"):
        refuse_new_faults(before, edit, REGISTRY)


def test_an_instance_goes_with_all_its_headers() -> None:
    before = clan(CLAN + "\n    [instances.internet.settings]\n    priority = 1\n\n    # last\n")
    edit = remove_instance(before, "internet")
    kept = dedent(CLAN).partition("[instances.internet")[0] + "# last\n"
    assert edit.source.text.decode() == kept


WRONG: list[tuple[Callable[[Inventory], Edit], str, str | None]] = [
    (lambda c: delete_machine(c, REGISTRY, "nsa"), "no machine 'nsa'", "did you mean 'nas'?"),
    (lambda c: rename_machine(c, REGISTRY, "nas", "vps"), "a machine 'vps' already", None),
    (lambda c: rename_machine(c, REGISTRY, "nas", "-"), "'-' is no machine name", None),
    (lambda c: create_machine(c, "nas"), "a machine 'nas' already", None),
    (lambda c: create_machine(c, "10"), "read it as an address", None),
    (lambda c: create_machine(c, "pi", tags=["a b"]), "'a b' is no tag", None),
    (lambda c: remove_instance(c, "vpm"), "no instance 'vpm'", "did you mean 'vpn'?"),
    (lambda c: add_instance(c, REGISTRY, "vpn"), "an instance 'vpn' already", None),
    (lambda c: add_instance(c, REGISTRY, "tro"), "no module 'tro'", "did you mean 'tor'?"),
    (
        lambda c: add_instance(c, REGISTRY, "tor", members=[Membership(role="sever", name="nas")]),
        "no role of 'tor' 'sever'",
        "did you mean 'server'?",
    ),
    (
        lambda c: add_instance(
            c, REGISTRY, "tor", members=[Membership(role="server", name="sever", is_tag=True)]
        ),
        "no tag 'sever'",
        "did you mean 'server'?",
    ),
]


@pytest.mark.parametrize(("change", "message", "hint"), WRONG)
def test_a_wrong_name_is_refused_with_the_nearest(
    change: Callable[[Inventory], Edit], message: str, hint: str | None
) -> None:
    with pytest.raises((ClanError, UsageError), match=message) as caught:
        change(clan())
    assert caught.value.hint == hint or hint is None


def test_a_clan_below_inventory_and_json_are_edited_in_place() -> None:
    text = '{\n  "inventory": {\n    "machines": {\n      "nas": {}\n    }\n  }\n}\n'
    before = clan(text, "json")
    edit = create_machine(before, "pi", tags=["a"])
    assert changed_lines(before, edit) == [
        '-       "nas": {}',
        '+       "nas": {},',
        '+       "pi": {',
        '+         "tags": [',
        '+           "a"',
        "+         ]",
        "+       }",
    ]
    edit = add_instance(before, REGISTRY, "tor")
    assert b'"instances": {\n      "tor": {}' in edit.source.text


# What a person may do to a clan, one after another; and how a file may look that they do it to.
NAMES = ["nas", "vps", "laptop", "pi", "box"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["create", "rename", "delete"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
    ),
    max_size=6,
)
machine_styles = {
    "header": "# {n}\n[machines.{n}]  # {n}\ntags = ['a'] # {n}\n",
    "quoted": '# {n}\n["machines"."{n}"]\n\n',
    "subtable": "[machines.{n}.deploy] # {n}\ntargetHost = 'h' # {n}\n# {n}\n",
    "dotted": "machines.{n}.description = '{n}' # {n}\n",
    "inline": "machines.{n} = {{ tags = [ 'a' ] }} # {n}\n",
}
role_styles = [
    "machines = [{names}]\n",
    "machines = [\n{lines}]\n",
    "machines = {{ {inline} }}\n",
    "tags.all = {{}}\n",
]


@st.composite
def files(draw: st.DrawFn) -> str:
    """Draw a clan file: three machines in mixed styles, and a network that two of them are on."""
    top = ["# first\nmeta.name = 'x'\n"]
    below: list[str] = []
    for name in NAMES[:3]:
        style = draw(st.sampled_from(sorted(machine_styles)))
        text = machine_styles[style].format(n=name)
        (top if style in {"dotted", "inline"} else below).append(text)
    role = draw(st.sampled_from(role_styles)).format(
        names=", ".join(f"'{name}'" for name in NAMES[:2]),
        lines="".join(f"  '{name}', # {name}\n" for name in NAMES[:2]),
        inline=", ".join(f"{name} = {{}}" for name in NAMES[:2]),
    )
    below.insert(draw(st.integers(0, len(below))), f"[instances.lan.roles.default] # net\n{role}")
    return "".join([*top, *below, draw(st.sampled_from(["", "# last", "# last\n"]))])


@given(files(), steps)
def test_any_sequence_of_edits_keeps_what_it_is_not_about(
    text: str, todo: list[tuple[str, str, str]]
) -> None:
    inventory = clan(text)
    expected = set(NAMES[:3])
    bystanders = set(NAMES[:3])  # the machines that no edit was about
    for verb, name, other in todo:
        edit = _attempt(inventory, verb, name, other)
        if edit is None:
            continue
        refuse_new_faults(inventory, edit, REGISTRY)
        inventory = clan(edit.source.text.decode())
        expected = {
            "create": expected | {name},
            "delete": expected - {name},
            "rename": expected - {name} | {other},
        }[verb]
        bystanders -= {name, other}
    assert set(inventory.machines) == expected
    lines = inventory.source.text.decode().splitlines()
    for line in text.splitlines():
        about = [name for name in NAMES[:3] if name in line]
        if all(name in bystanders for name in about):
            assert lines.count(line) == text.splitlines().count(line) or not line
    for name in bystanders:
        before, after = (tomllib.loads(each) for each in (text, "\n".join(lines)))
        assert after["machines"][name] == before["machines"][name]


def _attempt(inventory: Inventory, verb: str, name: str, other: str) -> Edit | None:
    try:
        if verb == "create":
            return create_machine(inventory, name, tags=["a"])
        if verb == "delete":
            return delete_machine(inventory, REGISTRY, name)
        return rename_machine(inventory, REGISTRY, name, other)
    except ClanError as refusal:
        assert "there is" in refusal.message  # noqa: PT017
        return None


def test_a_nix_file_gets_a_snippet_to_paste() -> None:
    inventory = clan()
    nix = replace(inventory, source=replace(inventory.source, language="nix"))
    snippets: dict[str, Callable[[], Edit]] = {
        "create": lambda: create_machine(nix, "pi", tags=["a"], target_host="pi.lan"),
        "delete": lambda: delete_machine(nix, REGISTRY, "laptop"),
        "rename": lambda: rename_machine(nix, REGISTRY, "laptop", "book"),
        "add": lambda: add_instance(
            nix, REGISTRY, "tor", members=[Membership(role="server", name="all", is_tag=True)]
        ),
    }
    said = {}
    for verb, edit in snippets.items():
        with pytest.raises(ClanError, match="edited by hand") as caught:
            edit()
        said[verb] = (caught.value.hint or "").splitlines()[1:]
    assert said == {
        "create": [
            '    machines.pi.tags = [ "a" ];',
            '    machines.pi.deploy.targetHost = "pi.lan";',
        ],
        "delete": [
            "    # remove machines.laptop",
            "    # remove instances.vpn.roles.peer.machines[1]",
        ],
        "rename": [
            "    # in machines.laptop: laptop becomes book",
            "    # in instances.vpn.roles.peer.machines[1]: laptop becomes book",
        ],
        "add": ["    instances.tor.roles.server.tags.all = { };"],
    }
