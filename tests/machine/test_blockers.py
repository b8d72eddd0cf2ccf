"""Chains that let nothing pass are told from those that may: rules as libnftables-json has them."""

from __future__ import annotations

from typing import Any

import pytest

from clan.machine.blockers import OUTSIDE, Packet, blocking

UDP: Packet = {
    "meta iifname": OUTSIDE,
    "meta l4proto": "udp",
    "udp dport": 51820,
    "th dport": 51820,
    "ct state": "new",
}
ACCEPT: dict[str, Any] = {"accept": None}
DROP: dict[str, Any] = {"drop": None}


def match(kind: str, key: str, right: Any, op: str = "==") -> dict[str, Any]:
    if kind in {"meta", "ct"}:
        left: dict[str, Any] = {kind: {"key": key}}
    else:
        left = {"payload": {"protocol": kind, "field": key}}
    return {"match": {"op": op, "left": left, "right": right}}


def port(number: Any, protocol: str = "udp") -> dict[str, Any]:
    return match(protocol, "dport", number)


def jump(target: str, kind: str = "jump") -> dict[str, Any]:
    return {kind: {"target": target}}


def ruleset(policy: str, **chains: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for name, rules in {"input": [], **chains}.items():
        of: dict[str, Any] = {"family": "inet", "table": "filter", "name": name}
        base = {"hook": "input", "policy": policy} if name == "input" else {}
        made.append({"chain": {**of, **base}})
        made += [
            {"rule": {"family": "inet", "table": "filter", "chain": name, "expr": rule}}
            for rule in rules
        ]
    return made


BLOCKED = {
    "nothing is accepted": ruleset("drop"),
    "only what is established": ruleset(
        "drop", input=[[match("ct", "state", ["established", "related"], "in"), ACCEPT]]
    ),
    "only from lo": ruleset("drop", input=[[match("meta", "iifname", "lo"), ACCEPT]]),
    "another port": ruleset("drop", input=[[port({"set": [53, {"range": [1, 1024]}]}), ACCEPT]]),
    "another protocol": ruleset("drop", input=[[port(51820, "tcp"), ACCEPT]]),
    "all but new ones": ruleset("drop", input=[[match("ct", "state", "new", "!="), ACCEPT]]),
    "a drop before": ruleset("accept", input=[[port(51820), DROP], [ACCEPT]]),
    "a reject at the end": ruleset("accept", input=[[{"counter": None}, {"reject": None}]]),
    "a drop in a chain of chains": ruleset(
        "accept", input=[[jump("a")]], a=[[jump("b", "goto")]], b=[[DROP]]
    ),
    "an accept that is returned before": ruleset(
        "drop", input=[[jump("a")]], a=[[{"return": None}], [ACCEPT]]
    ),
}
PASSES = {
    "policy": ruleset("accept"),
    "the port": ruleset("drop", input=[[port(51820), ACCEPT]]),
    "a range with it": ruleset("drop", input=[[port({"range": [50000, 60000]}), ACCEPT]]),
    "in a chain": ruleset("drop", input=[[jump("a")]], a=[[port(51820), ACCEPT]]),
    "what is not understood": ruleset("drop", input=[[{"xt": None}, ACCEPT]]),
    "a set with a name": ruleset("drop", input=[[port("@open"), ACCEPT]]),
    "perhaps that interface": ruleset("drop", input=[[match("meta", "iifname", "eth0"), ACCEPT]]),
    "a drop that may not hold": ruleset("accept", input=[[{"limit": {"rate": 1}}, DROP]]),
    "new ones": ruleset("drop", input=[[match("ct", "state", {"set": ["new"]}), ACCEPT]]),
    "a loop of chains": ruleset("drop", input=[[jump("a")]], a=[[jump("a")]]),
    "a map of verdicts": ruleset("drop", input=[[{"vmap": {}}]]),
}


@pytest.mark.parametrize("rules", BLOCKED.values(), ids=BLOCKED)
def test_a_chain_that_lets_nothing_pass_is_named(rules: list[dict[str, Any]]) -> None:
    assert list(blocking(rules, "input", UDP)) == ["inet filter input"]


@pytest.mark.parametrize("rules", PASSES.values(), ids=PASSES)
def test_one_that_may_let_it_pass_is_not(rules: list[dict[str, Any]]) -> None:
    assert list(blocking(rules, "input", UDP)) == []


def test_other_hooks_families_and_our_own_table_are_none_of_it() -> None:
    rules = ruleset("drop")
    assert list(blocking(rules, "forward", UDP)) == []
    for name, value in {"family": "bridge", "table": "clan"}.items():
        changed = [{"chain": {**entry["chain"], name: value}} for entry in rules]
        assert list(blocking(changed, "input", UDP)) == []
