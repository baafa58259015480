"""Words in diagnostics of mail servers, and the kinds of bounces that they mean.

A permanent reply is not a permanent failure of the recipient: servers answer 550 to a full
mailbox, to a sender without SPF, and to an address that does not exist. Only the last one is a
reason to send nothing there again. So the words come first, then the enhanced code, then the
reply code.

The rows are read from top to bottom, and the first one that fits counts: words about the
sender, its host or the content are above those about the recipient, because servers quote the
recipient in all of them. Words are in lower case, with one space between them; ``*`` stands for
any text.

Sources: RFC 3463, RFC 5248, RFC 7505, the texts of Postfix, Sendmail, Exim, qmail and Exchange,
the postmaster pages of Gmail, Yahoo, Outlook.com, Orange and Apple, and the bounces in
``tests/cases/bounces``.
"""

import re
from typing import Final, NamedTuple, TypeAlias

from smtpgate.core.feedback.kinds import (
    ATTACHMENT_REJECTED,
    CONTENT_REJECTED,
    GENERAL,
    MAILBOX_FULL,
    MESSAGE_TOO_LARGE,
    NO_EMAIL,
    ON_ACCOUNT_LIST,
    SUPPRESSED,
    TRANSIENT,
    BounceKind,
)

_FIRST_WORD: Final = re.compile(r"[a-z0-9]+(?= )")


class Phrase(NamedTuple):
    """Pieces of text, near each other, and the word that they begin with.

    The word is empty if the text may go on in front of it, as in ``antispam``.
    """

    pieces: tuple[str, ...]
    first_word: str


PhraseTable: TypeAlias = tuple[tuple[BounceKind, tuple[Phrase, ...]], ...]


def _phrases(text: str) -> tuple[Phrase, ...]:
    return tuple([_phrase(one) for one in text.split(" | ")])


def _phrase(text: str) -> Phrase:
    first = _FIRST_WORD.match(text)
    return Phrase(tuple(text.split(" * ")), first[0] if first else "")


PHRASES: Final[PhraseTable] = (
    (
        ON_ACCOUNT_LIST,
        _phrases("on the suppression list for your account | account suppression list"),
    ),
    (
        SUPPRESSED,
        _phrases("amazon ses has suppressed sending to this address | on the suppression list"),
    ),
    # Sentences with words of other rows.
    (
        GENERAL,
        _phrases(
            "account or domain may not exist | no smtp service | "
            "recipient address has null mx | nullmx | null mx"
        ),
    ),
    (
        TRANSIENT,
        _phrases(
            "host not found, try again | list of allowed rcpthosts | "
            "isn't in my control/locals | refused due to recipient preferences | "
            "character sets | may not have permission to post | "
            "permission to post messages to the group | 550 : user unknown | "
            "550: : user unknown | my name was rejected | procmail: | couldn't create | "
            "could not create | can't create | unable to open mailbox | mailbox locked | "
            "no space left | write error | i/o error"
        ),
    ),
    # The sender's address, its domain, its host, its rights: nothing about the recipient.
    (
        TRANSIENT,
        _phrases(
            "sender address rejected | sender rejected | sender was rejected | "
            "sender verify failed | sender verification | sender domain | sender unknown | "
            "unknown sender | invalid sender | sender is invalid | "
            "sender address is invalid | sender not allowed | senders not allowed | "
            "sender does not exist | domain of sender | sender address | from address | "
            "mail from domain | your domain | return-path address | originating domain | "
            "bad sender | backscatter | null sender | empty envelope sender | "
            "bounce address | client host rejected | client host | helo command rejected | "
            "bad helo | invalid helo | cannot find your hostname | reverse dns | "
            "reverse lookup | ptr record | no ptr | rdns | unresolvable relay host name | "
            "unauthenticated | not authenticated | authentication required | "
            "must authenticate | smtp auth | spf  | spf: | spf- | dkim | dmarc | "
            "sender id | sender policy framework | purported responsible address | "
            "relay access denied | relaying denied | relaying not allowed | "
            "relay not permitted | unable to relay | not permitted to relay | "
            "relay operation rejected | we do not relay | we don't relay | "
            "relaying prohibited | relaying is prohibited | relay denied | "
            "this system is not configured to relay | blocklist | blacklist | black list | "
            "block list | blocked using | dnsbl | by rbl | in rbl | rbl filter | "
            "spamhaus | barracudacentral | spamcop | "
            "poor reputation | bad reputation | low reputation | "
            "ip address * reputation | reputation of | ip address has been | your ip | "
            "ip address is | ip not allowed | mail server rejected | connection refused | "
            "connection rejected | too many connections | too many errors | "
            "too many recipients | too many messages | too many invalid | rate limit | "
            "rate exceed | receiving mail at a rate | exceeded the * limit | throttl | "
            "unexpected volume | user complaints | unusual rate | greylist | graylist | "
            "please try again later | try again later | try later | essayer plus tard | "
            "requires starttls | must issue a starttls | encryption required | "
            "tls required | certificate"
        ),
    ),
    (
        ATTACHMENT_REJECTED,
        _phrases(
            "attachment type | attachment * not | attachment * reject | "
            "attachment * block | attachment * prohibited | blocked attachment | "
            "prohibited attachment | illegal attachment | forbidden attachment | "
            "suspicious attachment | file type | filename extension | illegal file | "
            "banned file | banned content | executable"
        ),
    ),
    (
        CONTENT_REJECTED,
        _phrases(
            "virus | malware | infected | spam | unsolicited | junk mail | bulk mail | "
            "phish | content rejected | message content | content * not accept | "
            "content presents a potential | content restrictions | rejected * content | "
            "objectionable content | not rfc * compliant | multiple addresses in from | "
            "header error | headers too large | malformed | improper use of 8-bit | "
            "8-bit data in message header | bare lf | bare cr | media error | "
            "domain blacklisted | surbl | uribl | not compliant with rfc"
        ),
    ),
    (
        MESSAGE_TOO_LARGE,
        _phrases(
            "message too large | message too big | message size exceeds | "
            "message size limit | message exceeds | message is too large | "
            "message is too big | message length exceeds | message header size exceeds | "
            "message file too big | exceeds maximum message size | "
            "exceeds the maximum size | exceeded * maximum message size | "
            "exceeds fixed maximum | exceeds size limit | exceeds the size | "
            "size limit exceeded | over size limit | max message size | "
            "maximum message size | larger than * limit | too large | too big | sizelimit"
        ),
    ),
    (
        MAILBOX_FULL,
        _phrases(
            "mailbox full | mailbox is full | mailbox * is full | mailbox was full | "
            "mailfolder is full | inbox is full | inbox full | maildir has overdrawn | "
            "mailbox has exceeded | mailbox exceeded | mailbox exceeds | "
            "mailbox size limit | mailbox over quota | mailbox is over | "
            "mailbox would exceed | mailbox quota | over quota | over the quota | "
            "over their quota | over * disk quota | overquota | quota exceed | "
            "quota exceded | quota is exceed | quota has been exceed | quota full | "
            "quota violation | exceeded the quota | exceeded his * quota | "
            "exceeded * storage | exceeding * quota | exceeds * quota | "
            "exceeds mailbox quota | exceeded quota | exceeded * quota | "
            "storage allocation | storage quota | storage limit | "
            "insufficient mailbox storage | out of storage | disk quota exceeded | "
            "disk full | not enough disk space in recipient | not enough storage space in | "
            "user is over | account is full | account is over | "
            "account is temporarily over | user account is overquota | "
            "too many messages in | number of messages in recipient's mailbox exceeded | "
            "mail box full | mail quota | box is full | boite du destinataire pleine | "
            "archivage | メールボックスが一杯 | メールボックスがいっぱい"
        ),
    ),
    # It exists, or did: an administrator or its owner may open it again.
    (
        TRANSIENT,
        _phrases(
            "account has been disabled | account is disabled | account disabled | "
            "account deactivated | account has been suspended | account is suspended | "
            "account suspended | account has been temporarily | "
            "account * temporarily disabled | account is temporarily | "
            "account that you tried to reach is disabled | account * is disabled | "
            "account * suspended | account is locked | account locked | "
            "account has been locked | account inactive | account is inactive | "
            "account not activated | account expired | account has expired | "
            "account is not active | account * inactive | not active | mailbox disabled | "
            "mailbox is disabled | mailbox is inactive | mailbox is frozen | "
            "mailbox temporarily disabled | mailbox currently suspended | "
            "mailbox suspended | mailbox is locked | mailbox unavailable for | "
            "mailbox disabled for this recipient | user is suspended | user suspended | "
            "user is inactive | user * is inactive | user is disabled | user * disabled | "
            "disabled recipient | recipient suspended | recipient is suspended | "
            "recipient's account is disabled | recipient disabled | suspended | "
            "disabled due to inactivity | inactive account | inactive for | "
            "recipient rejected: temporarily inactive | discontinued [# | vacationing"
        ),
    ),
    # The recipient does not exist.
    (
        NO_EMAIL,
        _phrases(
            "user unknown | unknown user | user is unknown | unknown recipient | "
            "recipient unknown | recipient is unknown | unknown address | address unknown | "
            "unknown local | unknown mailbox | unknown or illegal alias | unknown account | "
            "invalid final delivery | several matches found in | user is terminated | "
            "user terminated | account unknown | no such user | no such recipient | "
            "no such mailbox | no such address | no such person | no such account | "
            "no such email | no such name | no such local user | no mailbox here | "
            "no mailbox by that name | no mailbox found | no account by that name | "
            "no user | no recipient | no valid recipient | no matches to nameserver query | "
            "not a valid mailbox | not a valid user | not a valid recipient | "
            "not a known user | not a recognized | not recognized | not listed in | "
            "not found in directory | "
            "not in my list | not our customer | not have an account | "
            "doesn't have a * account | does not have a * account | "
            "doesn't have an account | don't have an account | does not have an email | "
            "invalid recipient | invalid mailbox | invalid user | invalid address | "
            "invalid account | recipient * invalid | recipient is not valid | "
            "recipient not found | recipientnotfound | recipient no longer | "
            "recipient is not exist | recipient does not exist | recipient doesn't exist | "
            "recipient address rejected: access denied | recipient address does not exist | "
            "recipient address rejected: undeliverable address | "
            "recipient address rejected: unverified address | "
            "recipient address rejected: address does not exist | "
            "recipient address rejected: user | bad address | bad destination mailbox | "
            "bad recipient | bad mailbox | badrecipient | user not found | user not known | "
            "user not exist | user not local | user doesn't exist | user does not exist | "
            "user * not found | user * does not exist | user * doesn't exist | "
            "user no longer | mailbox not found | mailbox does not exist | "
            "mailbox doesn't exist | mailbox * does not exist | mailbox not available | "
            "mailbox unavailable | mailbox is unavailable | mailbox no longer | "
            "mailbox invalid | account does not exist | account doesn't exist | "
            "account * does not exist | account not found | "
            "account that you tried to reach does not exist | account is not valid | "
            "account * deleted | address does not exist | address doesn't exist | "
            "address not found | address * not found | address * does not exist | "
            "address rejected by | address is not valid | address invalid | "
            "address wasn't found | address couldn't be found | address not present in | "
            "adresse d au moins un destinataire invalide | adresse destinataire invalide | "
            "destinataire inconnu | utilisateur inconnu | "
            "email address could not be found | email address lookup in domain | "
            "could not be found, or was misspelled | inactive email address | "
            "wasn't found at | is not a valid | is not valid | is unknown | "
            "does not exist here | does not exist | doesn't exist | not exist | "
            "not known here | undeliverable address | user account doesnt exist | "
            "delivery error: dd this user doesn't have | isn't a mailing list | "
            "there is no one at this address | there is no such | "
            "this address no longer accepts mail | no longer accepts | nosuchuser | "
            "unrouteable address | unroutable address | "
            "all relevant mx records point to non-existent hosts | resolver.adr | "
            "vdeliver: invalid | can't find user | "
            "message could not be delivered to that recipient | "
            "ディレクトリのリストにありません | 存在しません"
        ),
    ),
    # Its domain does not exist, or takes no mail (RFC 7505).
    (
        GENERAL,
        _phrases(
            "host unknown | unknown host | host not found | host or domain name not found | "
            "domain not found | domain name not found | domain does not exist | "
            "domain must exist | domain is not reachable | nxdomain | no such domain | "
            "no such host | unknown domain | bad destination system | "
            "bad destination host | name or service not known | "
            "name service error * not found | couldn't find any host | "
            "couldn't find a mail exchanger | couldn't find a mx | "
            "could not find any host | could not be found * domain | "
            "domain could not be found | no mail exchanger | no mx record | no mx found | "
            "no mx for | mx record * not found | dns lookup failure: host | "
            "does not accept mail | doesn't accept mail | domain * not accept email | "
            "no route found to domain | unrouteable mail domain | unrouteable domain | "
            "smtp service not available for | mail receiving disabled | has moved | "
            "has been moved | mailbox moved | user moved | has been replaced by | "
            "address changed | no forwarding address"
        ),
    ),
)
# Words that say less than a precise status.
GENERIC_PHRASES: Final[PhraseTable] = (
    (
        TRANSIENT,
        _phrases(
            "timed out | timeout | time-out | too long | retry | retries | network | "
            "lost connection | connection * lost | unable to connect | could not connect | "
            "cannot connect | couldn't establish | loops back | mail loop | loop | "
            "too many hops | hop count | no route to host | temporar | system error | "
            "system not | not enough | insufficient | service unavailable | "
            "service currently unavailable | local error | procmail | command time limit | "
            "broken pipe | exit status | unknown mailer error | command died | "
            "permission denied | service refuse | message filtered | filtered | rejected | "
            "denied | refused | prohibited | not allowed | not permitted | not accepted | "
            "unacceptable | policy | blocked | banned | restricted | expired | delayed | "
            "delivery time | attempts | points back | best mx host"
        ),
    ),
)

# By class, subject and detail (RFC 3463 §3, https://www.iana.org/assignments/smtp-enhanced-status-codes).
STATUSES: Final[dict[str, BounceKind]] = {
    "5.1.0": NO_EMAIL,
    "5.1.1": NO_EMAIL,
    "5.1.2": GENERAL,
    "5.1.3": NO_EMAIL,
    "5.1.4": NO_EMAIL,
    "5.1.6": GENERAL,
    "5.1.7": TRANSIENT,
    "5.1.8": TRANSIENT,
    "5.1.9": TRANSIENT,
    "5.1.10": GENERAL,
    "5.1.351": NO_EMAIL,
    "5.2.0": TRANSIENT,
    "5.2.1": TRANSIENT,
    "5.2.2": MAILBOX_FULL,
    "5.2.3": MESSAGE_TOO_LARGE,
    "5.3.1": MAILBOX_FULL,
    "5.3.4": MESSAGE_TOO_LARGE,
    "5.4.4": GENERAL,
    "5.4.310": GENERAL,
    "5.7.27": TRANSIENT,
    "4.2.2": MAILBOX_FULL,
    "4.3.1": MAILBOX_FULL,
}
# By subject alone.
SUBJECTS: Final[dict[str, BounceKind]] = {
    "5.2": TRANSIENT,
    "5.3": TRANSIENT,
    "5.4": TRANSIENT,
    "5.5": TRANSIENT,
    "5.6": CONTENT_REJECTED,
    "5.7": TRANSIENT,
    "4.1": TRANSIENT,
    "4.2": TRANSIENT,
    "4.3": TRANSIENT,
    "4.4": TRANSIENT,
    "4.5": TRANSIENT,
    "4.6": CONTENT_REJECTED,
    "4.7": TRANSIENT,
}
