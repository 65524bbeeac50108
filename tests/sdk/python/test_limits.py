"""What limits do to boto3: many calls at once, waits, budgets."""

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError
from conftest import model, says

CALLS = 200


def ask(client, words: int) -> tuple[int, str, int]:
    """The tokens that a call was answered with, or the code of its error, and how often it was tried again."""
    try:
        answer = client.converse(
            modelId=model(f"words-{words}"), messages=says("one two three four five"), inferenceConfig={"maxTokens": words + 5}
        )
    except ClientError as error:
        return 0, error.response["Error"]["Code"], error.response["ResponseMetadata"]["RetryAttempts"]
    return answer["usage"]["totalTokens"], "", answer["ResponseMetadata"]["RetryAttempts"]


def at_once(clients, words: int) -> list[tuple[int, str, int]]:
    with ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(lambda at: ask(clients[at % len(clients)], words), range(CALLS)))


def test_two_hundred_calls_at_once_never_pass_a_budget_of_10000_tokens(runtime, world):
    """A hundred and five fit. Those that find it spent are told so, and don't ask again."""
    client = runtime(token=world.metered, max_pool_connections=CALLS)
    answers = at_once([client], 90)
    assert {code for _, code, _ in answers} <= {"", "ThrottlingException", "ServiceQuotaExceededException"}
    assert 50 * 95 <= sum(tokens for tokens, _, _ in answers) <= 105 * 95
    while answers[-1][1] != "ServiceQuotaExceededException":
        answers.append(ask(client, 90))
    assert sum(tokens for tokens, _, _ in answers) == 105 * 95
    assert ask(client, 90) == (0, "ServiceQuotaExceededException", 0)


def test_two_hundred_calls_at_once_wait_as_told_and_all_succeed(runtime, world):
    """10,000 tokens a second, 2,000 at once: nineteen calls fit beside one another. A client of boto3 has some hundred retries at a time."""
    clients = [runtime(token=world.paced, max_pool_connections=25, retries={"mode": "standard", "max_attempts": 30}) for _ in range(8)]
    answers = at_once(clients, 90)
    assert [code for _, code, _ in answers if code] == []
    assert any(retries > 0 for _, _, retries in answers)
