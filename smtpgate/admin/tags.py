"""Tags of identities, configuration sets and topics, which the gate keeps and does not use."""

from collections.abc import Mapping, Sequence

from smtpgate.admin.refs import ConfigurationSetRef, IdentityRef, TaggedRef, TopicRef
from smtpgate.admin.session import Session
from smtpgate.core.tag import read_tags
from smtpgate.directory import tags as rows
from smtpgate.directory.rows import refusing
from smtpgate.directory.tagged_resources import tagged_resource
from smtpgate.directory.tags import TaggedKind


async def put(session: Session, ref: TaggedRef, tags: Mapping[str, str]) -> None:
    """Set tags; others stay. At most 50 in all. Raises NotFoundError, RefusedChangeError."""
    session.must_be_allowed(
        "TagTopic" if ref.kind == "topic" else "TagResource", arn_of(session, ref)
    )
    with refusing("Tags"):
        read_tags(tags.items())
    async with session.changing() as change:
        tagged = await tagged_resource(change.connection, *_place(session, ref))
        await rows.put_tags(change, tagged, tags)


async def drop(session: Session, ref: TaggedRef, keys: Sequence[str]) -> None:
    """Remove tags by their keys. Raises NotFoundError."""
    session.must_be_allowed(
        "UntagTopic" if ref.kind == "topic" else "UntagResource", arn_of(session, ref)
    )
    async with session.changing() as change:
        tagged = await tagged_resource(change.connection, *_place(session, ref))
        await rows.drop_tags(change, tagged, keys)


async def of(session: Session, ref: TaggedRef) -> Mapping[str, str]:
    """The tags of a resource, by key. Raises NotFoundError."""
    session.must_be_allowed(
        "ListTagsOfTopic" if ref.kind == "topic" else "ListTagsForResource",
        arn_of(session, ref),
    )
    async with session.store.reading() as connection:
        return await rows.tags_of(
            connection, await tagged_resource(connection, *_place(session, ref))
        )


def arn_of(session: Session, ref: TaggedRef) -> str:
    """The ARN of a resource."""
    if ref.kind == "identity":
        return session.identity_arn(IdentityRef(ref.account_id, ref.name))
    if ref.kind == "topic":
        return session.topic_arn(TopicRef(ref.account_id, ref.name))
    return session.configuration_set_arn(ConfigurationSetRef(ref.account_id, ref.name))


def _place(session: Session, ref: TaggedRef) -> tuple[str, str, TaggedKind, str]:
    return ref.account_id, session.region, ref.kind, ref.name
