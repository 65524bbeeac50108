"""boto3 while gateways take over from one another: calls and streams until stdin ends, and then one line of JSON. The harness is tests/it/restarts/stock.rs."""

import json
import os
import sys
import threading
import time

import boto3
from botocore.config import Config

MODEL = "amazon.nova-lite-v1:0"


def client(url):
    session = boto3.Session(region_name="us-east-1")
    return session.client("bedrock-runtime", endpoint_url=url, config=Config(max_pool_connections=8))


def call(runtime, word):
    answer = runtime.converse(modelId=MODEL, messages=[{"role": "user", "content": [{"text": word}]}])
    assert answer["output"]["message"]["content"][0]["text"] == f"echo: {word}", answer
    return answer["ResponseMetadata"]["RetryAttempts"]


def stream(runtime, word):
    answer = runtime.converse_stream(modelId=f"amazon.emulator.slow-events-60.words-15:0", messages=[{"role": "user", "content": [{"text": word}]}])
    kinds = [kind for event in answer["stream"] for kind in event]
    assert kinds[-1] == "metadata" and "messageStop" in kinds, kinds
    return answer["ResponseMetadata"]["RetryAttempts"]


def main():
    over, lock = threading.Event(), threading.Lock()
    told = {"calls": 0, "retries": 0, "errors": []}

    def worker(runtime, ask, name):
        at = 0
        while not over.is_set():
            at += 1
            try:
                retries, error = ask(runtime, f"w{name}n{at}"), None
            except Exception as failed:
                retries, error = 0, repr(failed)
            with lock:
                told["calls"] += 1
                told["retries"] += retries
                if error:
                    told["errors"].append(error)
            # Below the grace of idle connections; of all lengths.
            time.sleep(0.005 if name % 2 else 0.3 * (at % 5))

    # A token goes over TLS only.
    clients = [client(os.environ["TOLLGATE_TLS_URL"]) for _ in range(2)]
    asks = [call, call, stream, call]
    workers = [threading.Thread(target=worker, args=(clients[name % 2], asks[name % 4], name)) for name in range(8)]
    for thread in workers:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in workers:
        thread.join()
    print(json.dumps(told))


main()
