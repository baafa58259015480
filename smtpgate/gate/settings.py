"""The settings of the parts of a gate, from its configuration."""

from smtpgate.admission import AdmissionRules
from smtpgate.config import Config
from smtpgate.config.toml import reason
from smtpgate.gate.errors import OpenError
from smtpgate.log import JsonLog
from smtpgate.pipeline import Rules
from smtpgate.ports import Clock


def log_of(config: Config, clock: Clock) -> JsonLog:
    """The log. Raises OpenError."""
    try:
        return JsonLog(
            str(config.log.target),
            level=config.log.level,
            clock=clock,
            recipients=config.log.recipients,
            refusals_per_minute=config.log.refusals_per_minute,
        )
    except OSError as error:
        text = f"log.target: {config.log.target} cannot be opened: {reason(error)}"
        raise OpenError(f"{text}; name a file in a folder that the service may write") from None


def rules_of(config: Config, hostname: str) -> Rules:
    """The settings of the pipeline."""
    return Rules(
        hostname=hostname,
        region=config.gate.region,
        infer_arn=config.authorization.infer_arn,
        pass_long_lines=config.message.long_lines == "pass",
        require_signature=config.signing.require,
        allow_when_ledger_fails=config.limits.on_store_failure == "allow",
        allow_when_journal_fails=config.journal.on_failure == "allow",
        mask_client=config.gate.received_client == "mask",
    )


def admission_rules_of(config: Config) -> AdmissionRules:
    """The settings of what senders may do before their message."""
    return AdmissionRules(
        remember_refused_s=config.sole_upstream.remember_refused_s,
        max_refusals=config.limits.max_refusals,
        refusals_per_minute=config.limits.refusals_per_minute,
        refusal_delay_s=config.limits.refusal_delay_s,
    )
