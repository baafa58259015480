"""Automatic answers of people: vacation notes and their like (RFC 3834)."""

from typing import Final

from smtpgate.core.feedback.mime import Fields, decoded_words

_FIELDS: Final = (
    "x-autoreply",
    "x-autorespond",
    "x-autoresponder",
    "x-auto-response-suppress",
    "x-vacation",
    "x-mail-autoreply",
)
# Beginnings of the Subject field.
_SUBJECTS: Final = (
    "auto:",
    "auto re:",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto response",
    "auto-response",
    "automatic reply",
    "automatic response",
    "automated reply",
    "automated response",
    "out of off",
    "out of the off",
    "out-of-off",
    "on vacation",
    "vacation",
    "away from",
    "abwesenheit",
    "abwesend",
    "réponse automatique",
    "respuesta automática",
    "risposta automatica",
    "resposta automática",
    "automatische antwort",
    "automatisch antwoord",
    "autosvar",
    "自動応答",
    "自动回复",
)


def is_answer(fields: Fields) -> bool:
    """True if a program of the recipient answered, and the message is no bounce."""
    submitted = fields.first("auto-submitted").lower()
    if submitted.startswith("auto-replied"):
        return True
    if fields.first("precedence").lower() in {"auto_reply", "auto-reply"}:
        return True
    subject = decoded_words(fields.first("subject")).lower().strip()
    if any(subject.startswith(one) for one in _SUBJECTS):
        return True
    return any(fields.first(name) for name in _FIELDS) and "re:" in subject[:20]
