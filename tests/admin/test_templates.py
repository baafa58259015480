"""Templates as the use cases keep them: only those that can be rendered."""

import pytest

from smtpgate.admin import templates
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.refs import TemplateRef
from smtpgate.core.api.rendering import MAX_TEMPLATE_OCTETS, Parts
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import root, session_of
from tests.support.tenants import add_account
from tests.support.world import OWNER

REF = TemplateRef(OWNER, "spring")
GOOD = Parts("Hello {{name}}", "Hello {{name}}.", None)


async def test_a_template_is_kept_if_it_can_be_rendered(store: DirectoryStore) -> None:
    await add_account(store, OWNER)
    session = session_of(store, root())
    for name, parts, says in (
        ("a b", GOOD, "TemplateName has 1 to 64 letters"),
        ("spring", Parts(None, "Hello", None), "needs a subject, and a text or an HTML part"),
        ("spring", Parts("Hello", None, None), "needs a subject, and a text or an HTML part"),
        ("spring", Parts("Hello", "x" * MAX_TEMPLATE_OCTETS, None), "octets at most"),
        ("spring", Parts("Hello {{", "Hello", None), "the tag is not closed"),
    ):
        with pytest.raises(RefusedChangeError, match=says):
            await templates.create(session, TemplateRef(OWNER, name), parts)
    with pytest.raises(NotFoundError):
        await templates.get(session, REF)
    await templates.create(session, REF, GOOD)
    assert await templates.get(session, REF) == GOOD
