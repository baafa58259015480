"""A client of AWS, unmodified, that calls a gate."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.config
import botocore.session

from tests.support.world import SECRET


@cache
def _session() -> Any:  # noqa: ANN401 - botocore has no types
    return botocore.session.Session()


def aws_client(
    service: str,
    port: int,
    key_id: str,
    *,
    secret: str = SECRET,
    region: str = "us-east-1",
    attempts: int = 1,
) -> Any:  # noqa: ANN401 - botocore has no types
    """A client for a service that calls a gate on loopback, and makes so many attempts."""
    return _session().create_client(
        service,
        region_name=region,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=botocore.config.Config(
            retries={"total_max_attempts": attempts}, read_timeout=30
        ),
    )


async def called(call: Callable[..., Any], **parameters: object) -> dict[str, Any]:
    """The answer to a call, which is made in a thread."""
    found: dict[str, Any] = await asyncio.to_thread(call, **parameters)
    assert found.pop("ResponseMetadata")["HTTPHeaders"]["x-amzn-requestid"]
    return found
