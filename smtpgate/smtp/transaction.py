"""The mail transaction: MAIL, RCPT and DATA, and its end (RFC 5321 §3.3)."""

import asyncio

from smtpgate.core.events import CutOffBy, MessageCutOff
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.core.message.body import StoredMessage
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Envelope, Submission
from smtpgate.core.message.reading import LARGE_OCTETS
from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.smtp.arrival import Arrival
from smtpgate.smtp.command import parse_mail, parse_rcpt
from smtpgate.smtp.dialogue import WIRE, Dialogue, Spent, Transaction
from smtpgate.smtp.intake import MessageIntake, unstuffed
from smtpgate.smtp.protocol import HangUp, OutOfBudget

# -- MAIL --------------------------------------------------------------------------------------


async def on_mail(dialogue: Dialogue, argument: bytes) -> None:
    """MAIL FROM: begin a transaction."""
    key, admission = dialogue.key, dialogue.parts.admission
    if key is None:
        name = "auth-first" if dialogue.may_authenticate else "tls-first"
        dialogue.note_error(CATALOGUE[name])
    elif dialogue.in_transaction:
        dialogue.bad_sequence("a transaction is open; RSET ends it")
    elif not admission.has_refusals_left(key.principal.account.id):
        raise OutOfBudget("refusals")
    else:
        mail = parse_mail(argument)
        if mail.size > dialogue.max_octets:
            dialogue.note_exhausted("message-octets")
            dialogue.note_error(CATALOGUE["too-long"])
            return
        refusal = await admission.refusal_at_mail(key, dialogue.client)
        if refusal is not None:
            # Of a pipelined group (RFC 2920 §3.1), up to DATA, it is the only error.
            dialogue.excused = dialogue.parts.max_recipients + 1
            dialogue.note_error(refusal, has_event=True)
            return
        dialogue.transaction = Transaction(key, mail)
        dialogue.reply_lines(WIRE["sender-ok"])


# -- RCPT --------------------------------------------------------------------------------------


async def on_rcpt(dialogue: Dialogue, argument: bytes) -> None:
    """RCPT TO: one more recipient."""
    transaction = dialogue.transaction
    if transaction is None:
        dialogue.bad_sequence("MAIL comes first")
        return
    recipient = parse_rcpt(argument, smtputf8=transaction.mail.smtputf8)
    mailbox, limit = recipient.mailbox, _max_recipients(dialogue)
    if mailbox in transaction.recipients:  # relayed and charged once
        dialogue.reply_lines(WIRE["recipient-ok"])
        dialogue.count_junk()
        return
    if len(transaction.recipients) >= limit:
        _refuse_excess(dialogue, limit)
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


def _max_recipients(dialogue: Dialogue) -> int:
    """The fewer of the gate's limit and the upstream's."""
    limit, learned = dialogue.parts.max_recipients, dialogue.parts.upstream.max_recipients
    return limit if learned is None else min(limit, learned)


def _refuse_excess(dialogue: Dialogue, limit: int) -> None:
    spent = dialogue.spent
    dialogue.refuse(reply_of("too-many-recipients", limit=limit))
    if not spent.excess_recipients:
        dialogue.note_exhausted("recipients")
    spent.excess_recipients += 1
    over = spent.excess_recipients - dialogue.parts.config.max_excess_recipients
    dialogue.count_over("excess-recipients", over)


# -- DATA --------------------------------------------------------------------------------------


async def on_data(dialogue: Dialogue, argument: bytes) -> None:
    """DATA: take the message, hand it to the pipeline, answer with its verdict."""
    transaction = dialogue.transaction
    if argument:
        dialogue.note_error(reply_of("syntax", syntax="DATA"))
        return
    if transaction is None or not transaction.recipients:
        dialogue.bad_sequence("MAIL and RCPT come first")
        dialogue.excused = 0
        return
    dialogue.reply_lines(WIRE["start-data"])
    max_octets = dialogue.max_octets
    intake = MessageIntake(dialogue.parts.intake, max_octets, transaction.account_id)
    arrival = dialogue.parts.new_arrival()
    try:
        message = await _take_message(dialogue, intake, arrival)
        if message is None or len(message) > max_octets:
            _refuse_message(dialogue, intake.refusal or "message-octets")
        else:
            reply = await _submit(dialogue, transaction, message)
            intake.release()
            await _answer(dialogue, transaction, reply)
    except HangUp as hang_up:
        # A budget that is used up has an event of its own.
        if not (dialogue.is_submitting or isinstance(hang_up, OutOfBudget)):
            by: CutOffBy = "gate" if hang_up.reply else "client"
            now = dialogue.parts.clock.now()
            dialogue.publish(MessageCutOff(dialogue.client, now, by, intake.octets))
        raise
    finally:
        arrival.close()
        intake.release()
        _end(dialogue)


async def _take_message(
    dialogue: Dialogue, intake: MessageIntake, arrival: Arrival
) -> bytes | StoredMessage | None:
    """The message as the client means it; it may be longer with its line ends made whole."""
    wire = await dialogue.read_message(intake, arrival)
    dialogue.is_submitting = wire is not None
    if not isinstance(wire, bytes):
        return wire
    return await dialogue.parts.offload.run(
        len(wire) > LARGE_OCTETS,
        unstuffed,
        wire,
        normalize_bare_lf=dialogue.parts.normalize_bare_lf,
    )


async def _submit(
    dialogue: Dialogue, transaction: Transaction, message: bytes | StoredMessage
) -> Reply:
    parts, key, mail = dialogue.parts, transaction.key, transaction.mail
    received_at = parts.clock.now()
    recipients = tuple(transaction.recipients.values())
    return await parts.pipeline.submit(
        Submission(
            message_id=parts.new_message_id(received_at),
            principal=key.principal,
            client=dialogue.client,
            action=SEND_RAW_EMAIL,
            envelope=Envelope(mail.reverse_path, recipients, mail.smtputf8),
            message=message,
            received_at=received_at,
            key_limits=key.limits,
        ),
        client_gone=dialogue.client_gone,
    )


async def _answer(dialogue: Dialogue, transaction: Transaction, reply: Reply) -> None:
    """Give the verdict; an account whose messages are refused again and again waits for it."""
    if reply.is_positive:
        dialogue.spent = Spent()
        _forget_refused(dialogue, transaction)
    elif delay_s := dialogue.parts.admission.delay_s(transaction.account_id):
        await asyncio.sleep(delay_s)
    dialogue.reply(reply)


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
    does not split messages, so the old answers must not keep this one back for hours.
    """
    if dialogue.transaction is not None:
        _forget_refused(dialogue, dialogue.transaction)
    _end(dialogue)


def _forget_refused(dialogue: Dialogue, transaction: Transaction) -> None:
    """The client knows of its refused recipients: the upstream is asked again next time."""
    if transaction.refused:
        dialogue.parts.admission.forget_refused(
            transaction.account_id, transaction.mail.reverse_path, transaction.refused
        )


def _end(dialogue: Dialogue) -> None:
    dialogue.transaction = None
    dialogue.is_submitting = False
