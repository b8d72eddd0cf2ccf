"""Values are made when they are missing, follow what they are made from, and never rotate alone."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.vars.family import Counter, Family, Machines, changed, made, wireguard

from clan.errors import ClanError, UsageError
from clan.model.exports import Var
from clan.model.generator import Elsewhere, Generator, Inputs, Needed, Prompt, VarFile
from clan.vars.age import new_key
from clan.vars.change import set_answer, set_value, settable
from clan.vars.names import GeneratorId
from clan.vars.need import Request, steps
from clan.vars.readers import admit, reencrypt
from clan.vars.rotation import Rotation, rotations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STAMP = "2026-02-01T00:00:00Z"
TOKEN = Var(machine="nas", generator="token", file="value")


def told(outcomes: object) -> list[tuple[str, bool, str]]:
    assert isinstance(outcomes, list)
    return [(str(each.id), each.made, each.why) for each in outcomes]


def test_new_values_for_one_machine_are_its_own(family: Family) -> None:
    declared = made("token"), made("wifi", machine=None), made("token", machine="vps")
    family.generate(*declared)
    nas = Request(machines=frozenset({"nas"}), regenerate=True)
    assert [str(each.id) for each in family.generate(*declared, request=nas)] == ["nas/token"]
    more = (*declared, made("ca", machine=None))
    assert [str(each.id) for each in family.generate(*more, request=nas)] == [
        "nas/token",
        "shared/ca",  # it is missing, and nas uses it
    ]


def test_what_a_command_makes_is_due_until_it_was_run(family: Family) -> None:
    root = Generator(
        name="root",
        files=(VarFile(name="publickey", secret=False),),
        make=Elsewhere(command="clan mesh root"),
    )
    address = changed(made("address", secret=False), depends=("root",))
    why = "`clan mesh root` makes it"
    first = family.generate(root, address)
    assert told(first) == [
        ("shared/root", False, why),
        ("nas/address", False, "missing; it waits for shared/root"),
    ]
    with pytest.raises(ClanError, match="is made by a command of its own"):
        settable(family.graph(root), "shared/root/publickey")
    set_value(
        family.store,
        family.graph(root, address),
        Var(machine=None, generator="root", file="publickey"),
        b"key",
        "2026-01-31T12:00:00Z",
    )
    assert told(family.generate(root, address)) == [("nas/address", True, "missing")]
    again = family.generate(root, address, request=Request(regenerate=True))
    assert ("shared/root", False, why) in told(again)


def test_what_is_missing_is_made_once(family: Family) -> None:
    token = made("token")
    assert told(family.generate(token)) == [("nas/token", True, "missing")]
    first = family.store.reveal(TOKEN)
    assert family.generate(token) == []
    assert family.store.reveal(TOKEN) == first


def test_a_secret_lies_encrypted_to_the_admins_and_its_machine(family: Family) -> None:
    other, nas, vps = family.admin("ben", here=False), family.machine("nas"), family.machine("vps")
    family.generate(made("token"))
    place = family.store.place("nas", "token")
    value = family.store.value(TOKEN)
    assert value is not None
    assert sorted(path.name for path in place.iterdir()) == ["meta.json", "value"]
    assert [path.name for path in (place / "value").iterdir()] == ["secret"]
    for path in family.folder.rglob("*"):
        assert not path.is_file() or value not in path.read_bytes()
    assert family.store.public(TOKEN) is None
    assert family.readable_by(other, TOKEN)
    assert family.readable_by(nas, TOKEN)
    assert not family.readable_by(vps, TOKEN)


def test_a_machine_reads_its_secrets_from_the_moment_it_has_an_identity(family: Family) -> None:
    shared = made("wifi", machine=None)
    only_ours = Generator(
        name="paper",
        machine="nas",
        make=Counter(),
        files=(VarFile(name="value", needed=Needed.NEVER),),
    )
    declared = made("token"), shared, only_ours
    family.generate(*declared)
    wifi, paper = (
        Var(machine=m, generator=g, file="value") for m, g in ((None, "wifi"), ("nas", "paper"))
    )
    nas, key = new_key()
    assert not family.readable_by(nas, TOKEN)
    done = admit(family.store, family.graph(*declared), "nas", key)
    with pytest.raises(ClanError, match="no key to encrypt to"):
        admit(family.store, family.graph(*declared), "vps", f"{key}\nage1other")
    assert {str(each) for each in done} == {"nas/token", "shared/wifi"}
    assert family.readable_by(nas, TOKEN)
    assert family.readable_by(nas, wifi)
    assert not family.readable_by(nas, paper)
    assert reencrypt(family.store, family.graph(*declared), "nas") == []
    assert family.generate(*declared) == []  # it is the same value still


def test_without_an_admin_nothing_secret_is_made(tmp_path: Path) -> None:
    alone = Family(tmp_path)
    make = Counter()
    with pytest.raises(ClanError, match="no admin yet"):
        alone.generate(made("token", make=make))
    assert make.calls == []
    assert told(alone.generate(made("id", secret=False))) == [("nas/id", True, "missing")]


def test_a_generator_is_given_what_it_depends_on(family: Family) -> None:
    def certify(inputs: Inputs) -> Mapping[str, bytes]:
        return {"cert": inputs.files["ca"]["key"] + b" signs " + inputs.files["ca"]["cert"]}

    ca = Generator(
        name="ca",
        files=(VarFile(name="key"), VarFile(name="cert", secret=False)),
        make=lambda _: {"key": b"KEY", "cert": b"CERT"},
    )
    cert = Generator(
        name="cert",
        machine="nas",
        files=(VarFile(name="cert", secret=False),),
        make=certify,
        depends=("ca",),
    )
    only_cert = Request(services=frozenset({"cert"}))
    assert [str(o.id) for o in family.generate(cert, ca, request=only_cert)] == [
        "shared/ca",
        "nas/cert",
    ]
    assert family.store.read("nas", "cert", "cert") == "KEY signs CERT"


def dependents() -> tuple[Generator, Generator, Generator]:
    return (
        made("ca", machine=None),
        changed(made("cert", make=Counter(), secret=False), depends=("ca",)),
        changed(made("key"), depends=("ca",)),
    )


def test_dependents_follow_and_those_with_secrets_are_due(family: Family) -> None:
    all_three = dependents()
    family.generate(*all_three)
    key = family.store.sealed(Var(machine="nas", generator="key", file="value"))
    assert told(family.regenerate(*all_three, service="ca")) == [
        ("shared/ca", True, "asked for"),
        ("nas/cert", True, "shared/ca is made again"),
        ("nas/key", False, "shared/ca is made again"),
    ]
    assert family.store.read("nas", "cert", "value") == "value 2"
    assert family.store.sealed(Var(machine="nas", generator="key", file="value")) == key
    # It stays due until it is asked for.
    assert told(family.generate(*all_three)) == [("nas/key", False, "shared/ca changed")]
    family.regenerate(*all_three, service="key")
    assert family.generate(*all_three) == []


def test_a_public_value_written_by_hand_is_followed_too(family: Family) -> None:
    base = made("base", secret=False)
    after = changed(made("after", make=Counter(), secret=False), depends=("base",))
    family.generate(base, after)
    family.store.write("nas", "base", "value", "by hand")
    assert told(family.generate(base, after)) == [("nas/after", True, "nas/base changed")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "version 1 became 2"),
        ({"inputs": {"bits": 4096}}, "its inputs changed"),
    ],
)
def test_an_upgrade_remakes_public_values_and_leaves_secrets_whole(
    family: Family, change: dict[str, object], why: str
) -> None:
    public, secret = made("id", secret=False), made("token")
    family.generate(public, secret)
    before = family.store.sealed(TOKEN)
    upgraded = changed(public, **change), changed(secret, **change)
    assert told(family.generate(*upgraded)) == [("nas/id", True, why), ("nas/token", False, why)]
    assert family.store.sealed(TOKEN) == before
    assert told(family.generate(*upgraded)) == [("nas/token", False, why)]


def test_a_renamed_machine_keeps_its_values(family: Family) -> None:
    def declared(machine: str) -> tuple[Generator, ...]:
        base = made("base", machine=machine)
        id_ = changed(made("id", secret=False, machine=machine), depends=("base", "ca"))
        return base, id_, made("ca", machine=None)

    family.generate(*declared("nas"))
    per_machine = family.store.folder / "per-machine"
    (per_machine / "nas").rename(per_machine / "vps")
    assert family.generate(*declared("vps")) == []


def test_what_depends_on_a_value_that_is_only_due_is_left_alone(family: Family) -> None:
    base = made("base")
    after = changed(made("after", secret=False), depends=("base",))
    family.generate(base, after)
    outcomes = told(family.generate(changed(base, version=2), after))
    assert outcomes == [("nas/base", False, "version 1 became 2")]


def test_a_public_value_with_another_dependency_is_made_again(family: Family) -> None:
    after = made("after", secret=False)
    family.generate(made("base"), after)
    outcomes = told(family.generate(made("base"), changed(after, depends=("base",))))
    assert outcomes == [("nas/after", True, "it depends on others than before")]


def test_another_function_of_the_same_version_changes_nothing(family: Family) -> None:
    family.generate(made("id", secret=False))
    assert family.generate(made("id", secret=False, make=Counter())) == []


def test_a_file_that_is_new_in_a_generator_with_secrets_is_due(family: Family) -> None:
    family.generate(made("token"))
    before = family.store.sealed(TOKEN)
    grown = made("token", "value", "more")
    assert told(family.generate(grown)) == [("nas/token", False, "more missing")]
    assert family.store.sealed(TOKEN) == before


def test_a_dry_run_says_what_would_change_and_why(family: Family) -> None:
    from clan.vars.generate import kept_of

    all_three = dependents()
    family.generate(all_three[0])
    graph = family.graph(*all_three)
    found = steps(graph, kept_of(family.store, graph), Request(regenerate=True))
    assert [(str(s.entry.id), s.action.value, s.why) for s in found] == [
        ("shared/ca", "make", "asked for"),
        ("nas/cert", "make", "missing"),
        ("nas/key", "make", "missing"),
    ]


def test_a_key_is_born_on_its_machine_and_only_its_public_half_is_kept(family: Family) -> None:
    machines = Machines("nas")
    family.birthplace = machines
    assert told(family.generate(wireguard())) == [("nas/wireguard-keys-vpn", True, "missing")]
    assert machines.asked == [("nas", "wireguard-keys-vpn", False)]
    assert family.store.read("nas", "wireguard-keys-vpn", "publickey") == "key 1"
    assert not list(family.store.folder.rglob("privatekey"))
    family.regenerate(wireguard(), service="wireguard-keys-vpn")
    assert machines.asked[1:] == [("nas", "wireguard-keys-vpn", True)]
    assert family.store.read("nas", "wireguard-keys-vpn", "publickey") == "key 2"


def test_a_machine_that_does_not_answer_makes_its_key_at_the_next_update(family: Family) -> None:
    outcome = told(family.generate(wireguard()))
    late = "not reached, due at its next update"
    assert outcome == [("nas/wireguard-keys-vpn", False, f"missing; {late}")]
    what = "generator/wireguard-keys-vpn"
    since = "2026-01-31T12:00:00Z"
    due = Rotation(what=what, why="missing", since=since, replace=False)
    assert rotations(family.store, "nas") == (due,)
    family.birthplace = Machines("nas")
    family.generate(wireguard())
    assert rotations(family.store, "nas") == ()
    family.birthplace = Machines()
    family.regenerate(wireguard(), service="wireguard-keys-vpn")
    due = Rotation(what=what, why="asked for", since=since, replace=True)
    assert rotations(family.store, "nas") == (due,)
    assert family.store.read("nas", "wireguard-keys-vpn", "publickey") == "key 1"


def test_an_upgrade_leaves_a_machines_own_key_whole(family: Family) -> None:
    machines = Machines("nas")
    family.birthplace = machines
    family.generate(wireguard())
    outcomes = told(family.generate(changed(wireguard(), version=2)))
    assert outcomes == [("nas/wireguard-keys-vpn", False, "version 1 became 2")]
    assert len(machines.asked) == 1


def test_what_needs_a_key_of_a_silent_machine_waits_for_it(family: Family) -> None:
    config = changed(made("config", secret=False), depends=("wireguard-keys-vpn",))
    outcomes = told(family.generate(config, wireguard()))
    assert outcomes[1] == ("nas/config", False, "missing; it waits for nas/wireguard-keys-vpn")


def test_a_prompt_is_answered_by_a_person_or_nothing_is_changed(family: Family) -> None:
    def shout(inputs: Inputs) -> Mapping[str, bytes]:
        return {"hash": inputs.prompts["password"].upper().encode()}

    login = Generator(
        name="login",
        machine="nas",
        files=(VarFile(name="hash"),),
        make=shout,
        prompts=(Prompt(name="password", description="Password of nas"),),
    )
    make = Counter()
    with pytest.raises(UsageError, match="nas/login/password needs an answer"):
        family.generate(made("token", make=make), login)
    assert make.calls == []
    family.ask = lambda _, prompt: f"{prompt.name}!"
    family.generate(login)
    assert family.store.reveal(Var(machine="nas", generator="login", file="hash")) == "PASSWORD!"


def crash(inputs: Inputs) -> Mapping[str, bytes]:
    raise ValueError(f"the password is {inputs!r} s3cret")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (crash, "generator nas/token crashed: ValueError"),
        (lambda _: {}, "did not make value"),
        (lambda _: {"value": b"", "more": b""}, "made more, which it does not declare"),
        (lambda _: {"value": "text"}, "as str, not as bytes"),
    ],
)
def test_a_faulty_generator_is_named_and_quotes_no_secret(
    family: Family, make: object, said: str
) -> None:
    with pytest.raises(ClanError, match=said) as caught:
        family.generate(made("token", make=make))  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)
    assert not family.store.place("nas", "token").exists()


def test_what_was_made_is_staged_and_not_committed(family: Family) -> None:
    git = ["git", "-C", str(family.folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    (family.folder / ".gitignore").write_text("config\n")
    family.generate(made("token"))
    listed = subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True)
    assert set(listed.stdout.split()) == {
        "vars/admins/anna.toml",
        "vars/per-machine/nas/token/meta.json",
        "vars/per-machine/nas/token/value/secret",
    }
    log = subprocess.run([*git, "log"], check=False, capture_output=True)
    assert log.returncode != 0


def test_an_ssh_key_reads_secrets_too(family: Family) -> None:
    from clan.vars.admins import Admin, path_of, write_record

    ssh = family.folder / ".ssh/id_ed25519"
    ssh.parent.mkdir()
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna@desk", "-f", str(ssh)]
    subprocess.run(command, check=True)
    family.store.keys[0].unlink()
    public = ssh.with_suffix(".pub").read_text()
    record = path_of(family.store.folder, "anna")
    record.write_bytes(write_record(Admin(name="anna", key=" ".join(public.split()[:2]))))
    family.generate(made("token"))
    assert family.store.reveal(TOKEN)
    assert family.store.identity().publics == (" ".join(public.split()[:2]),)


def test_ids_of_generators_are_written_as_their_folders() -> None:
    assert str(GeneratorId(machine=None, name="ca")) == "shared/ca"


def test_what_a_person_said_for_a_silent_machine_is_not_asked_again(family: Family) -> None:
    asked: list[str] = []

    def person(owner: GeneratorId, prompt: Prompt) -> str:
        asked.append(f"{owner}/{prompt.name}")
        return "said"

    family.ask = person
    key = wireguard()
    config = changed(
        made("config", secret=False, make=lambda given: {"value": given.prompts["word"].encode()}),
        depends=("wireguard-keys-vpn",),
        prompts=(Prompt(name="word", description="A word"),),
    )
    why = "missing; it waits for nas/wireguard-keys-vpn"
    assert told(family.generate(config, key))[1] == ("nas/config", False, why)
    family.birthplace = Machines("nas")
    assert [made for _, made, _ in told(family.generate(config, key))] == [True, True]
    assert family.store.read("nas", "config", "value") == "said"
    assert asked == ["nas/config/word"]


def test_what_follows_a_key_that_is_due_is_left_whole_until_that_is_made(family: Family) -> None:
    family.birthplace = Machines("nas")
    key = wireguard()
    config = changed(made("config", secret=False, make=Counter()), depends=("wireguard-keys-vpn",))
    family.generate(config, key)
    family.birthplace = Machines()
    due = Request(due=frozenset({GeneratorId(machine="nas", name="wireguard-keys-vpn")}))
    outcomes = told(family.generate(config, key, request=due))
    assert [made for _, made, _ in outcomes] == [False, False]
    assert family.store.read("nas", "config", "value") == "value 1"
    family.birthplace = Machines("nas")
    outcomes = told(family.generate(config, key, request=due))
    assert [made for _, made, _ in outcomes] == [True, True]
    assert family.store.read("nas", "config", "value") == "value 2"


def test_where_nobody_is_asked_what_is_there_is_left_due(family: Family) -> None:
    family.birthplace, family.ask = Machines("nas"), lambda _, __: "said"
    key = wireguard()
    config = changed(
        made("config", secret=False, make=Counter()),
        depends=("wireguard-keys-vpn",),
        prompts=(Prompt(name="word", description="A word"),),
    )
    follows = changed(made("follows", secret=False, make=Counter()), depends=("config",))
    family.generate(follows, config, key)
    due = Request(due=frozenset({GeneratorId(machine="nas", name="wireguard-keys-vpn")}))
    family.ask = None
    asks = "left as it is until `clan vars generate` asks for word"
    assert told(family.generate(follows, config, key, request=due)) == [
        ("nas/wireguard-keys-vpn", True, "asked for"),
        ("nas/config", False, f"nas/wireguard-keys-vpn is made again; {asks}"),
        ("nas/follows", False, "nas/config is made again; it waits for nas/config"),
    ]
    assert family.store.read("nas", "config", "value") == "value 1"
    # It stays so, and whoever can be asked is.
    outcomes = told(family.generate(follows, config, key))
    assert outcomes[0] == ("nas/config", False, f"nas/wireguard-keys-vpn changed; {asks}")
    family.ask = lambda _, __: "said again"
    assert [made for _, made, _ in told(family.generate(follows, config, key))] == [True, True]
    assert family.store.read("nas", "follows", "value") == "value 2"


def test_where_nobody_is_asked_what_is_missing_says_how_it_is_made(family: Family) -> None:
    family.ask = None
    asks = changed(made("wifi"), prompts=(Prompt(name="word", description="A word"),))
    with pytest.raises(ClanError, match="nas/wifi asks for word: A word") as caught:
        family.generate(asks)
    assert caught.value.hint == "`clan vars generate` asks for it"
    graph = family.graph(asks)
    set_answer(family.store, graph, settable(graph, "nas/wifi/word")[0], b"said", STAMP)
    assert [each.made for each in family.generate(asks)] == [True]


def test_all_that_nobody_is_there_to_say_is_told_at_once(family: Family) -> None:
    machines = Machines("nas")
    family.birthplace = machines
    prompts = (Prompt(name="one", description="One"), Prompt(name="two", description="Two"))
    asks = [changed(made(name), prompts=prompts) for name in ("first", "second")]
    with pytest.raises(UsageError) as caught:
        family.generate(*asks, wireguard())
    names = ("first/one", "first/two", "second/one", "second/two")
    said = [f"nas/{name} needs an answer" for name in names]
    assert caught.value.message.splitlines() == said
    assert machines.asked == []
