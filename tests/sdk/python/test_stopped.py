"""What the kill switch does to boto3: an error of its own kind, at once, that is not tried again."""

import pytest
from conftest import HAIKU, says

RETRIES = {"mode": "standard", "max_attempts": 5}


@pytest.mark.parametrize("operation", ["converse", "converse_stream"])
def test_a_stopped_tenant_is_denied_and_told_why_and_asks_no_more(runtime, world, operation):
    client = runtime(token=world.stopped, retries=RETRIES)
    with pytest.raises(client.exceptions.AccessDeniedException) as raised:
        getattr(client, operation)(modelId=HAIKU, messages=says("one"))
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0
    assert answer["Error"]["Message"].startswith("tenant `stopped` is stopped by the operator since 20")
    assert answer["Error"]["Message"].endswith(": Ask ops.")
