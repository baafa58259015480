"""``smtpgate policy generate``: a policy from flags or from questions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import typer

from smtpgate.core.policy.generate import PolicyOptions


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


def ask(options: PolicyOptions) -> PolicyOptions:
    """Ask for everything; what the flags said is offered as default."""
    prompter = _Prompter(typer.prompt)
    effect = prompter.text("Allow or Deny", options.effect).capitalize()
    wished: Literal["Allow", "Deny"] = "Deny" if effect == "Deny" else "Allow"
    if effect not in ("Allow", "Deny"):
        raise typer.BadParameter(f"neither Allow nor Deny: {effect}")
    options = replace(
        options,
        effect=wished,
        identity_arn=prompter.text("Identity (ARN)", options.identity_arn),
        principals=prompter.texts("Who: account ids or ARNs of users", options.principals),
    )
    texts = prompter.texts
    options = replace(
        options,
        from_addresses=texts("From addresses, just as they are", options.from_addresses),
        tagged_addresses=texts("From addresses, with any tag", options.tagged_addresses),
        from_domains=texts("From domains", options.from_domains),
        display_names=texts("Display names", options.display_names),
        recipient_domains=texts("Recipients' domains", options.recipient_domains),
        feedback_addresses=texts("MAIL FROM addresses", options.feedback_addresses),
        source_networks=texts("Networks of the clients", options.source_networks),
    )
    if options.from_domains or options.recipient_domains:
        with_subdomains = prompter.text("Subdomains too? yes or no", "no") == "yes"
        options = replace(options, with_subdomains=with_subdomains)
    return replace(
        options,
        not_before=prompter.text("From when (2026-01-31T00:00Z)", options.not_before or "")
        or None,
        until=prompter.text("Until when", options.until or "") or None,
    )
