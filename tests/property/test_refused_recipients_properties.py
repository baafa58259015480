"""The memory of refused recipients: bounded, right about time, and nobody else's."""

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.reply import Reply
from smtpgate.core.upstream.refused_recipients import RefusedRecipients

REPLY = Reply(550, "5.1.1", "no such user")
FROM = ReversePath(Mailbox("bounce", "ses-example.com"))
NOBODY = ReversePath(None)
KEEP_S, GRACE_S = 600, 120


def to(number: int) -> Mailbox:
    return Mailbox(f"r{number}", "example.net")


def test_an_answer_is_kept_for_its_account_and_reverse_path_alone() -> None:
    refused = RefusedRecipients(KEEP_S)
    refused.note("1", FROM, [(to(1), REPLY)], 0)
    assert refused.find("1", FROM, to(1), 599) == REPLY
    assert refused.find("2", FROM, to(1), 1) is None
    assert refused.find("1", NOBODY, to(1), 1) is None
    assert refused.find("1", FROM, to(2), 1) is None


def test_an_answer_is_forgotten_when_its_time_is_over() -> None:
    refused = RefusedRecipients(KEEP_S)
    refused.note("1", FROM, [(to(1), REPLY)], 0)
    assert refused.find("1", FROM, to(1), 600) is None
    assert len(refused) == 0


def test_an_answer_that_the_client_got_is_kept_for_its_other_messages_of_the_moment() -> None:
    refused = RefusedRecipients(KEEP_S)
    refused.note("1", FROM, [(to(1), REPLY)], 0)
    refused.forget_soon("1", FROM, [to(1), to(2)], 100)
    assert refused.find("1", FROM, to(1), 100 + GRACE_S - 1) == REPLY
    assert refused.find("1", FROM, to(1), 100 + GRACE_S) is None


def test_an_answer_is_not_kept_longer_because_the_client_got_it() -> None:
    refused = RefusedRecipients(KEEP_S)
    refused.note("1", FROM, [(to(1), REPLY)], 0)
    refused.forget_soon("1", FROM, [to(1)], KEEP_S - 1)
    assert refused.find("1", FROM, to(1), KEEP_S) is None


def test_one_account_pushes_out_its_own_answers_and_no_others() -> None:
    refused = RefusedRecipients(KEEP_S, places=10, places_an_account=4)
    refused.note("quiet", FROM, [(to(1), REPLY)], 0)
    refused.note("busy", FROM, [(to(number), REPLY) for number in range(100)], 1)
    assert refused.find("quiet", FROM, to(1), 2) == REPLY
    assert [refused.find("busy", FROM, to(number), 2) for number in (95, 99)] == [None, REPLY]
    assert len(refused) == 5


@example([("note", "1", [], 0)] + [("note", number, [0, 1, 2, 3, 4], 0) for number in "2345"])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["note", "told", "find"]),
            st.sampled_from("123456"),
            st.lists(st.integers(0, 9), max_size=6),
            st.integers(0, 400),
        )
    )
)
def test_it_never_keeps_more_than_its_places(
    done: list[tuple[str, str, list[int], int]],
) -> None:
    refused, now = RefusedRecipients(KEEP_S, places=12, places_an_account=5), 0
    noted: dict[tuple[str, int], int] = {}
    for what, account, numbers, seconds in done:
        now += seconds
        if what == "note":
            refused.note(account, FROM, [(to(number), REPLY) for number in numbers], now)
            noted |= dict.fromkeys([(account, number) for number in numbers], now)
        elif what == "told":
            refused.forget_soon(account, FROM, map(to, numbers), now)
        else:
            for number in numbers:
                if refused.find(account, FROM, to(number), now) is not None:
                    assert now - noted[account, number] < KEEP_S
        found = [
            sum(
                refused.find(account, FROM, to(number), now) is not None for number in range(10)
            )
            for account in "123456"
        ]
        assert max(found) <= 5
        assert sum(found) == len(refused) <= 12
