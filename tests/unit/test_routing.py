from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.routing.group import GroupMember, by_priority
from smtpgate.core.routing.route import Conditions, RelayRoute, RoutedMessage
from smtpgate.core.routing.routes import RouteTable
from tests.support.cases import load_cases
from tests.support.rows import rows

ROUTES = load_cases("routing/10-routes.toml")
REACHABLE = load_cases("routing/20-reachable.toml")
KINDS = ("accounts", "identities", "from_domains", "listeners", "tags")


def members(names: list[str]) -> tuple[GroupMember, ...]:
    return tuple(map(GroupMember, names))


def routes_of(case: dict[str, Any]) -> RouteTable:
    return RouteTable(
        [
            RelayRoute(
                one["name"],
                members(one["upstreams"]),
                members(one.get("fallback", [])),
                Conditions(**{kind: frozenset(one.get(kind, ())) for kind in KINDS}),
            )
            for one in case["routes"]
        ]
    )


@rows("case", ROUTES, ids=lambda case: case["note"])
def test_a_message_takes_the_first_route_that_it_meets(case: dict[str, Any]) -> None:
    routes = routes_of(case)
    for given_message in case["messages"]:
        message = RoutedMessage(
            account_id=given_message.get("account", ""),
            identity=given_message.get("identity", ""),
            from_domain=given_message.get("from_domain", ""),
            listener=given_message.get("listener", ""),
            tags=given_message.get("tags", ()),
        )
        choice = routes.only or routes.choose(message)
        assert choice.route.name == given_message["route"]
        assert (choice.reason if choice.route.name else "") == given_message["reason"]


@rows("case", REACHABLE, ids=lambda case: case["note"])
def test_a_client_may_reach_the_upstreams_of_the_routes_that_it_may_meet(
    case: dict[str, Any],
) -> None:
    routes = routes_of(case)
    for client in case["clients"]:
        reached = routes.reachable(client["listener"], client.get("account", ""))
        assert sorted(reached) == client["upstreams"], client


sets = st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=2)
conditions = st.builds(Conditions, accounts=sets, listeners=sets)
messages = st.builds(
    RoutedMessage, account_id=st.sampled_from("abcd"), listener=st.sampled_from("abcd")
)


@given(st.lists(conditions, max_size=4), messages)
def test_a_message_goes_only_where_its_client_was_said_to_reach(
    all_conditions: list[Conditions], message: RoutedMessage
) -> None:
    routes = RouteTable(
        [
            RelayRoute(str(at), (GroupMember(f"up{at}"),), (), one)
            for at, one in enumerate([*all_conditions, Conditions()])
        ]
    )
    chosen = {member.upstream for member in routes.choose(message).route.members}
    assert chosen <= routes.reachable(message.listener, message.account_id)
    assert chosen <= routes.reachable(message.listener)


@given(conditions, conditions, messages)
def test_conditions_cover_others_only_if_no_message_meets_these_alone(
    earlier: Conditions, later: Conditions, message: RoutedMessage
) -> None:
    if earlier.cover(later) and later.met_by(message) is not None:
        assert earlier.met_by(message) is not None


weighted = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=5)
chances = st.floats(0, 1, exclude_max=True)


@given(weighted, chances)
def test_each_member_is_tried_once_and_the_lowest_priority_first(
    facts: list[tuple[int, int]], chance: float
) -> None:
    group = [GroupMember(str(at), *one) for at, one in enumerate(facts)]
    order = by_priority(group, chance)
    flat = [member for equals in order for member in equals]
    assert sorted(flat, key=group.index) == group
    assert [one.priority for one in flat] == sorted(one.priority for one in flat)
    assert all(len({one.priority for one in equals}) == 1 for equals in order)
    assert by_priority(group, chance) == order


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (5, 3, 2)])
def test_messages_are_shared_by_weight_and_so_are_those_that_go_on(
    weights: tuple[int, ...],
) -> None:
    group = [GroupMember(str(at), weight=weight) for at, weight in enumerate(weights)]
    draws = 2000
    orders = [by_priority(group, (draw + 0.5) / draws)[0] for draw in range(draws)]
    firsts, seconds = (Counter(order[at].weight for order in orders) for at in (0, 1))
    total = sum(weights)
    for at, weight in enumerate(weights):
        others = [one for place, one in enumerate(weights) if place != at]
        first = draws * weight / total
        if len(set(weights)) == len(weights):
            assert abs(firsts[weight] - first) <= 2
            second = sum(draws * one / total * weight / (total - one) for one in others)
            assert abs(seconds[weight] - second) <= 6
