"""The mail transaction: MAIL, RCPT, DATA or BDAT, and its end (RFC 5321 §3.3, RFC 3030)."""

import asyncio
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Final

from smtpgate.core.address import Mailbox
from smtpgate.core.events import CutOffBy, MessageCutOff
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.core.message.body import StoredMessage
from smtpgate.core.message.envelope import (
    SEND_RAW_EMAIL,
    Envelope,
    Recipient,
    Submission,
)
from smtpgate.core.message.headers import normalize_line_ends
from smtpgate.core.message.reading import LARGE_OCTETS
from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.smtp.arrival import Arrival, Chunk, IncomingMessage
from smtpgate.smtp.command import (
    BadCommandError,
    parse_bdat,
    parse_mail,
    parse_rcpt,
)
from smtpgate.smtp.dialogue import WIRE, Dialogue, Transaction
from smtpgate.smtp.intake import MessageIntake
from smtpgate.smtp.protocol import HangUp, OutOfBudget, Work
from smtpgate.smtp.traced import trace_chunk, trace_message, trace_upstream
from smtpgate.smtp.unstuffing import unstuffed
from smtpgate.spool import SpoolError
from smtpgate.tracing import SERVED

# To take the dots off so many octets takes as long as to wait for a turn of the event loop.
_SHORT_OCTETS: Final = 16 * 1024

# -- MAIL --------------------------------------------------------------------------------------


def on_mail(dialogue: Dialogue, argument: bytes) -> Work | None:
    """MAIL FROM: begin a transaction."""
    key, admission = dialogue.key, dialogue.parts.admission
    if key is None:
        name = "auth-first" if dialogue.may_authenticate else "tls-first"
        dialogue.note_error(CATALOGUE[name])
    elif dialogue.transaction is not None:
        dialogue.bad_sequence("a transaction is open; RSET ends it")
    elif not admission.has_refusals_left(key.principal.account.id):
        raise OutOfBudget("refusals")
    else:
        dialogue.end_before_mail()
        mail, max_octets = parse_mail(argument, dialogue.offered), dialogue.max_octets
        transaction = Transaction(key, key.principal.account.id, mail, max_octets)
        if mail.size > max_octets:
            dialogue.note_exhausted("message-octets")
            dialogue.note_error(CATALOGUE["too-long"])
        elif admission.has_full_quotas or mail.size > dialogue.parts.intake.spool_octets:
            return partial(_begin_if_there_is_room, dialogue, transaction)
        else:
            dialogue.transaction = transaction
            dialogue.reply_lines(WIRE["sender-ok"])
    return None


async def _begin_if_there_is_room(dialogue: Dialogue, transaction: Transaction) -> None:
    """Begin a transaction unless the sender's quota is used up, or the disk too full for it."""
    parts, key, size = dialogue.parts, transaction.key, transaction.mail.size
    if parts.admission.has_full_quotas:
        refusal = await parts.admission.refusal_at_mail(key, dialogue.client)
        if refusal is not None:
            _excuse_group(dialogue)
            dialogue.note_error(refusal, has_event=True)
            return
    if size > parts.intake.spool_octets:
        try:
            await parts.spool.must_have_room(size)  # RFC 1870 §6.1
        except SpoolError:
            _excuse_group(dialogue)
            dialogue.note_exhausted("storage")
            dialogue.refuse(CATALOGUE["no-storage"])
            return
    dialogue.transaction = transaction
    dialogue.reply_lines(WIRE["sender-ok"])


def _excuse_group(dialogue: Dialogue) -> None:
    """Of a pipelined group (RFC 2920 §3.1), up to DATA, MAIL's error is the only one."""
    dialogue.excused = dialogue.parts.max_recipients + 1


# -- RCPT --------------------------------------------------------------------------------------


def on_rcpt(dialogue: Dialogue, argument: bytes) -> None:
    """RCPT TO: one more recipient."""
    transaction = dialogue.transaction
    if transaction is None:
        dialogue.bad_sequence("MAIL comes first")
        return
    if dialogue.incoming is not None:
        dialogue.bad_sequence("RCPT comes before BDAT")
        return
    smtputf8 = transaction.mail.smtputf8
    recipient = parse_rcpt(argument, smtputf8=smtputf8, offered=dialogue.offered)
    mailbox = recipient.mailbox
    if mailbox in transaction.recipients:  # relayed and charged once
        dialogue.reply_lines(WIRE["recipient-ok"])
        dialogue.count_junk()
        return
    if transaction.recipients:  # every limit allows one
        excess = _excess(dialogue, transaction.recipients, mailbox)
        if excess is not None:
            _refuse_excess(dialogue, excess)
            return
    refusal = dialogue.parts.admission.refusal_at_rcpt(
        transaction.account_id, transaction.mail.reverse_path, mailbox
    )
    if mailbox in transaction.refused:
        dialogue.count_junk()
    elif refusal is not None:
        transaction.refused[mailbox] = None
    if refusal is not None:
        # No error of the client's: a message may have many such recipients.
        dialogue.refuse(refusal)
    else:
        transaction.recipients[mailbox] = recipient
        dialogue.reply_lines(WIRE["recipient-ok"])


def max_recipients(dialogue: Dialogue) -> int:
    """The fewer of the gate's limit and the upstream's."""
    limit, learned = dialogue.parts.max_recipients, dialogue.upstream.max_recipients
    return limit if learned is None else min(limit, learned)


def _excess(
    dialogue: Dialogue, recipients: Mapping[Mailbox, Recipient], mailbox: Mailbox
) -> Reply | None:
    """The refusal of a recipient that is one more than a message may have."""
    limit = max_recipients(dialogue)
    if len(recipients) >= limit:
        return reply_of("too-many-recipients", limit=limit)
    limit_of_domains = dialogue.upstream.max_recipient_domains
    if limit_of_domains is not None:
        domains = {known.domain for known in recipients}
        if len(domains) >= limit_of_domains and mailbox.domain not in domains:
            return reply_of("too-many-domains", limit=limit_of_domains)
    return None


def _refuse_excess(dialogue: Dialogue, refusal: Reply) -> None:
    spent = dialogue.spent
    dialogue.refuse(refusal)
    if not spent.excess_recipients:
        dialogue.note_exhausted("recipients")
    spent.excess_recipients += 1
    over = spent.excess_recipients - dialogue.parts.config.max_excess_recipients
    dialogue.count_over("excess-recipients", over)


# -- DATA --------------------------------------------------------------------------------------


def on_data(dialogue: Dialogue, argument: bytes) -> None:
    """DATA: the message comes next."""
    transaction, parts = dialogue.transaction, dialogue.parts
    if argument:
        dialogue.note_error(reply_of("syntax", syntax="DATA"))
    elif transaction is None or not transaction.recipients:
        dialogue.bad_sequence("MAIL and RCPT come first")
        dialogue.excused = 0
    elif dialogue.incoming is not None:  # RFC 3030 §2: the client has to begin again
        abandon(dialogue)
        dialogue.bad_sequence("the message comes by BDAT already")
    else:
        dialogue.must_have_waited()
        dialogue.reply_lines(WIRE["start-data"])
        intake = MessageIntake(parts.intake, transaction.max_octets, transaction.account_id)
        arrival = Arrival(parts.spool, normalize_bare_lf=parts.normalize_bare_lf)
        dialogue.expect_message(intake, arrival)


# -- BDAT --------------------------------------------------------------------------------------


def on_bdat(dialogue: Dialogue, argument: bytes) -> Work | None:
    """BDAT: so many octets of the message come next, whatever they are. Raises HangUp."""
    try:
        octets, is_last = parse_bdat(argument)
    except BadCommandError as error:
        # The octets behind it are no commands, and it does not say how many they are.
        abandon(dialogue)
        dialogue.refuse(error.reply)
        raise HangUp from None
    deadline = dialogue.loop.time() + dialogue.parts.config.data_timeout_s
    transaction = dialogue.transaction
    if dialogue.parts.tracer.traces:
        trace_chunk(dialogue, octets)
    if not dialogue.is_esmtp:
        return dialogue.expect_chunk(Chunk(octets, is_last, deadline, "say EHLO first"))
    if transaction is None or not transaction.recipients:
        problem = "MAIL and RCPT come first"
        return dialogue.expect_chunk(Chunk(octets, is_last, deadline, problem))
    if dialogue.incoming is None:
        parts = dialogue.parts
        intake = MessageIntake(parts.intake, transaction.max_octets, transaction.account_id)
        arrival = Arrival(
            parts.spool, normalize_bare_lf=parts.normalize_bare_lf, is_stuffed=False
        )
        dialogue.begin_chunks(IncomingMessage(intake, arrival, deadline, bytearray()))
    incoming = dialogue.incoming
    if incoming is None:
        raise AssertionError("chunks have begun")
    if incoming.intake.octets + octets > incoming.intake.max_octets:
        incoming.intake.refuse("message-octets")
    work = dialogue.expect_chunk(Chunk(octets, is_last, incoming.deadline))
    if not octets and not is_last:
        dialogue.count_junk()
    return work


def on_chunk(
    dialogue: Dialogue,
    chunk: Chunk,
    incoming: IncomingMessage | None,
    message: bytes | StoredMessage,
) -> Work | None:
    """All octets of a chunk have come; the last one makes the message complete."""
    if chunk.refusal or incoming is None:
        dialogue.bad_sequence(chunk.refusal)
        if chunk.is_last:
            dialogue.excused = 0
    elif incoming.intake.refusal is not None:
        if not chunk.is_last:
            _excuse_group(dialogue)  # more chunks may be pipelined behind this one
        dialogue.drop_message()
        dialogue.end_transaction()
        _refuse_message(dialogue, incoming.intake.refusal)
    elif chunk.is_last:
        dialogue.is_submitting = True
        return partial(_carry, dialogue, incoming, message)
    else:
        dialogue.reply(CATALOGUE["chunk-ok"])
    return None


# -- the message -------------------------------------------------------------------------------


def on_message(
    dialogue: Dialogue, incoming: IncomingMessage, message: bytes | StoredMessage | None
) -> Work | None:
    """The message has come up to its final dot."""
    if dialogue.parts.tracer.traces:
        octets = incoming.intake.octets
        trace_message(dialogue, octets, is_whole=message is not None)
    if message is not None:
        dialogue.is_submitting = True
        return partial(_carry, dialogue, incoming, message)
    try:
        _refuse_message(dialogue, incoming.intake.refusal or "message-octets")
    finally:
        dialogue.end_transaction()
    return None


def cut_off(dialogue: Dialogue, hang_up: HangUp) -> None:
    """The session ends; note a message that was coming in."""
    if dialogue.incoming is None:
        return
    if not isinstance(hang_up, OutOfBudget):  # that has an event of its own
        by: CutOffBy = "gate" if hang_up.reply else "client"
        now = dialogue.parts.clock.now()
        dialogue.publish(
            MessageCutOff(dialogue.client, now, by, dialogue.incoming.intake.octets)
        )
    dialogue.end_transaction()


async def _carry(
    dialogue: Dialogue, incoming: IncomingMessage, wire: bytes | StoredMessage
) -> None:
    """Hand the message to the pipeline, and answer with its verdict."""
    transaction, message = dialogue.transaction, wire
    try:
        normalize_bare_lf = dialogue.parts.normalize_bare_lf
        if isinstance(wire, bytes) and (incoming.intake.has_dots or normalize_bare_lf):
            if incoming.kept is None and len(wire) <= _SHORT_OCTETS:
                message = unstuffed(wire, normalize_bare_lf=normalize_bare_lf)
            else:
                message = await _cleaned(dialogue, incoming, wire)
        if transaction is None or len(message) > incoming.intake.max_octets:
            _refuse_message(dialogue, "message-octets")
        else:
            reply = await _submit(dialogue, transaction, message)
            if reply.is_positive:
                dialogue.spent.clear()
                _forget_refused(dialogue, transaction)
            elif delay_s := dialogue.parts.admission.delay_s(transaction.account_id):
                # An account whose messages are refused again and again waits for its verdict,
                # and what is in memory is there so long.
                incoming.arrival.close()
                await asyncio.sleep(delay_s)
            dialogue.reply(reply)
    finally:
        incoming.close()
        dialogue.end_transaction()


async def _cleaned(dialogue: Dialogue, incoming: IncomingMessage, wire: bytes) -> bytes:
    """The message as the client means it; it may be longer with its line ends made whole."""
    parts, is_long = dialogue.parts, len(wire) > LARGE_OCTETS
    if incoming.kept is None:
        return await parts.offload.run(
            is_long, unstuffed, wire, normalize_bare_lf=parts.normalize_bare_lf
        )
    if parts.normalize_bare_lf:
        return await parts.offload.run(is_long, normalize_line_ends, wire)
    return wire  # nothing is stuffed in chunks


def _submit(
    dialogue: Dialogue, transaction: Transaction, message: bytes | StoredMessage
) -> Awaitable[Reply]:
    """The way of the message through the pipeline, which ends with the verdict."""
    parts, key, mail = dialogue.parts, transaction.key, transaction.mail
    received_at = parts.clock.now()
    if parts.tracer.traces or SERVED.get() is not None:
        trace_upstream(dialogue)
    recipients = tuple(transaction.recipients.values())
    return parts.pipeline.submit(
        Submission(
            message_id=parts.new_message_id(received_at),
            principal=key.principal,
            client=dialogue.client,
            action=SEND_RAW_EMAIL,
            envelope=Envelope(
                mail.reverse_path,
                recipients,
                mail.smtputf8,
                envelope_id=mail.envelope_id,
                returned=mail.returned,
                require_tls=mail.require_tls,
            ),
            message=message,
            received_at=received_at,
            key_limits=key.limits,
        ),
        client_gone=dialogue.client_gone,
    )


def _refuse_message(dialogue: Dialogue, budget: BudgetName) -> None:
    """There is no room for the message."""
    dialogue.note_exhausted(budget)
    reply = CATALOGUE[BUDGETS[budget].reply]
    if reply.is_permanent:
        dialogue.note_error(reply)
    else:
        dialogue.refuse(reply)


# -- the end -----------------------------------------------------------------------------------


def abandon(dialogue: Dialogue) -> None:
    """End a transaction without a message, if there is one.

    The client knows of its refused recipients, and sends nothing to the others either: it
    does not split messages, so the old answers must not keep this one back for hours. Chunks
    that have come are forgotten.
    """
    dialogue.drop_message()
    if dialogue.transaction is not None:
        _forget_refused(dialogue, dialogue.transaction)
    dialogue.end_transaction()


def _forget_refused(dialogue: Dialogue, transaction: Transaction) -> None:
    """The client knows of its refused recipients: the upstream is asked again next time."""
    if transaction.refused:
        dialogue.parts.admission.forget_refused(
            transaction.account_id, transaction.mail.reverse_path, transaction.refused
        )
