#!/usr/bin/env python3
"""An authorizer for Tollgate (`identity: [external: ...]`), to start from: it knows its callers by the SHA-256 of their keys.

    authorizer.py KEYS.json [ADDRESS:PORT]

KEYS.json: {"<sha256 of the key, in hex>": {"tenant": "acme", "user": "ann", "groups": ["devs"], "methods": ["GET"]}, ...}
`methods`, where it is there, lists the HTTP methods that the key is good for. Standard library only.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def decide(keys, call):
    """What is answered to one call: a status and a body."""
    credential = call.get("credential")
    if not credential:
        return 401, {}
    known = keys.get(hashlib.sha256(credential.encode()).hexdigest())
    if known is None:
        return 401, {}
    if call["method"] not in known.get("methods", [call["method"]]):
        return 200, {"deny": f"this key is not for {call['method']}"}
    principal = {name: known[name] for name in ("tenant", "user", "groups", "key_id") if name in known}
    return 200, {"principal": principal, "ttl": 60}


class Authorizer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the gateway keeps its connections

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        try:
            status, body = decide(self.server.keys, json.loads(self.rfile.read(length)))
        except (ValueError, KeyError, TypeError, AttributeError):
            status, body = 400, {}
        answer = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """A line a call is the gateway's to write."""


def main():
    host, _, port = (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7000").rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Authorizer)
    server.daemon_threads = True
    with open(sys.argv[1], encoding="utf-8") as file:
        server.keys = json.load(file)
    print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
