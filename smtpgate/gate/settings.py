"""Settings of parts that no single section configures: values from several, in one place."""

from smtpgate.admission import AdmissionRules
from smtpgate.config import Config
from smtpgate.core.limits.bans import BanRules
from smtpgate.pipeline import Rules


def pipeline_rules(config: Config) -> Rules:
    """The settings of the pipeline."""
    return Rules(
        hostname=config.hostname,
        region=config.gate.region,
        infer_arn=config.authorization.infer_arn,
        pass_long_lines=config.message.long_lines == "pass",
        max_received=config.message.max_received,
        require_signature=config.signing.require,
        allow_when_ledger_fails=config.limits.on_store_failure == "allow",
        allow_when_journal_fails=config.journal.on_failure == "allow",
        mask_client=config.gate.received_client == "mask",
    )


def ban_rules(config: Config) -> BanRules | None:
    """The settings of the ban list; ``None`` if nobody is to be banned by it."""
    bans = config.bans
    if not bans.enabled:
        return None
    return BanRules(
        bans.max_failures, bans.window_s, bans.first_s, bans.longest_s, bans.max_clients
    )


def admission_rules(config: Config) -> AdmissionRules:
    """The settings of what a sender may do before its message."""
    return AdmissionRules(
        remember_refused_s=max(one.remember_refused_s for one in config.upstreams),
        max_refusals=config.limits.max_refusals,
        refusals_per_minute=config.limits.refusals_per_minute,
        refusal_delay_s=config.limits.refusal_delay_s,
        remember_only_deferred=config.has_outbox,
    )
