"""``smtpgate policy generate``: from wishes, by flags or by questions, to a policy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import typer

from smtpgate.core.policy.generate import Wishes


@dataclass(frozen=True, slots=True)
class _Prompter:
    """Asks on the terminal, on standard error: standard output is for the policy."""

    prompt: Callable[..., str]

    def text(self, question: str, default: str) -> str:
        """One answer; enter takes the default."""
        answer: str = self.prompt(
            question, default=default, show_default=bool(default), err=True
        )
        return answer.strip()

    def texts(self, question: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Any number of answers, with commas between them."""
        answer = self.text(f"{question} (commas between, nothing for any)", ", ".join(default))
        return tuple(part.strip() for part in answer.split(",") if part.strip())


def ask(wishes: Wishes) -> Wishes:
    """Ask for everything; what the flags said is offered as default."""
    prompter = _Prompter(typer.prompt)
    effect = prompter.text("Allow or Deny", wishes.effect).capitalize()
    wished: Literal["Allow", "Deny"] = "Deny" if effect == "Deny" else "Allow"
    if effect not in ("Allow", "Deny"):
        raise typer.BadParameter(f"neither Allow nor Deny: {effect}")
    wishes = replace(
        wishes,
        effect=wished,
        identity_arn=prompter.text("Identity (ARN)", wishes.identity_arn),
        principals=prompter.texts("Who: account ids or ARNs of users", wishes.principals),
    )
    texts = prompter.texts
    wishes = replace(
        wishes,
        from_addresses=texts("From addresses, just as they are", wishes.from_addresses),
        tagged_addresses=texts("From addresses, with any tag", wishes.tagged_addresses),
        from_domains=texts("From domains", wishes.from_domains),
        display_names=texts("Display names", wishes.display_names),
        recipient_domains=texts("Recipients' domains", wishes.recipient_domains),
        feedback_addresses=texts("MAIL FROM addresses", wishes.feedback_addresses),
        source_networks=texts("Networks of the clients", wishes.source_networks),
    )
    if wishes.from_domains or wishes.recipient_domains:
        with_subdomains = prompter.text("Subdomains too? yes or no", "no") == "yes"
        wishes = replace(wishes, with_subdomains=with_subdomains)
    return replace(
        wishes,
        not_before=prompter.text("From when (2026-01-31T00:00Z)", wishes.not_before or "")
        or None,
        until=prompter.text("Until when", wishes.until or "") or None,
    )
