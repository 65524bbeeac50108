"""Spans, received by gRPC's and OpenTelemetry's own Python packages: that a stock collector understands what the gateway sends.

    python3 -m venv target/observability/venv
    target/observability/venv/bin/pip install -r tests/observability/requirements.txt
    cargo build && target/observability/venv/bin/python tests/observability/otlp.py target/debug/tollgate

It starts a receiver, the emulator and a gateway, each on a free port, makes three calls, stops the gateway, and checks what came. It needs no network.
"""

import http.client
import json
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MODEL = "amazon.nova-lite-v1:0"
BODY = json.dumps({"messages": [{"role": "user", "content": [{"text": "zebra quagga okapi"}]}]})
PATIENCE = 30


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.resources = []

    def Export(self, request, context):
        self.resources.extend(request.resource_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def lines_of(stream):
    """The lines of a pipe, as they come; none once it has ended."""
    lines = queue.Queue()

    def read():
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def listening(process, message):
    """Where a process says that it listens, in its log on stderr."""
    lines = lines_of(process.stderr)
    said = []
    while True:
        line = lines.get(timeout=PATIENCE)
        assert line is not None, "it ended: " + "".join(said)
        said.append(line)
        try:
            fields = json.loads(line)["fields"]
        except (ValueError, KeyError):
            continue
        if fields.get("message") == message:
            return fields["address"]


def call(address, path, headers):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("POST", path, BODY, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def told(span):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def main(binary):
    receiver = Receiver()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        started = dict(stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        emulator = subprocess.Popen([binary, "emulator", "--address", "127.0.0.1:0"], **{**started, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT})
        gateway = None
        try:
            upstream = lines_of(emulator.stdout).get(timeout=PATIENCE).split("http://")[1].split(";")[0]
            (folder / "secret").write_text("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
            (folder / "gateway.yaml").write_text(
                f"""
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
identity: [anonymous: {{ tenant: public }}]
upstreams:
  local:
    region: us-east-1
    endpoint: http://{upstream}
    credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: secret }}
record:
  access_log: off
  traces: {{ otlp: "http://127.0.0.1:{port}", sample: 0% }}
"""
            )
            gateway = subprocess.Popen([binary, "run", "--config", str(folder / "gateway.yaml")], **started)
            address = listening(gateway, "listening")
            sampled, unsampled = ({"traceparent": f"00-{TRACE}-{PARENT}-{flag}"} for flag in ("01", "00"))
            assert call(address, f"/model/{MODEL}/converse", sampled) == 200
            assert call(address, f"/model/{MODEL}/converse-stream", sampled) == 200
            assert call(address, f"/model/{MODEL}/converse", unsampled) == 200
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(PATIENCE) == 0
        finally:
            for process in filter(None, (gateway, emulator)):
                process.kill()
                process.wait()
            server.stop(0)

    resource = told(receiver.resources[0].resource)
    print("resource:", resource)
    assert resource["service.name"] == "tollgate" and len(resource["service.instance.id"]) == 36
    spans = [span for received in receiver.resources for scope in received.scope_spans for span in scope.spans]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    roots = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert len(roots) == 2, "two calls were sampled by their caller, and one was not"
    for root in roots:
        assert root.parent_span_id.hex() == PARENT
        assert root.name == f"chat {MODEL}" and root.status.code == Status.STATUS_CODE_UNSET
        attributes = told(root)
        assert attributes["gen_ai.provider.name"] == "aws.bedrock" and attributes["gen_ai.request.model"] == MODEL
        assert attributes["http.response.status_code"] == 200 and attributes["tollgate.tenant"] == "public"
        children = sorted((span for span in spans if span.parent_span_id == root.span_id), key=lambda span: span.start_time_unix_nano)
        assert [child.name for child in children] == ["admit", "upstream", "stream"]
        print(f"{root.name}  {(root.end_time_unix_nano - root.start_time_unix_nano) / 1e3:.0f} us  {attributes}")
        for child in children:
            assert root.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano <= root.end_time_unix_nano
            print(f"  {child.name:8}  {(child.end_time_unix_nano - child.start_time_unix_nano) / 1e3:.0f} us  {told(child)}")
    assert b"zebra" not in b"".join(received.SerializeToString() for received in receiver.resources), "a word that was spoken"
    print(f"ok: {len(spans)} spans of {len(roots)} calls")


if __name__ == "__main__":
    main(sys.argv[1])
