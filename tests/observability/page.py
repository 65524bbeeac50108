"""Opens the live page in a real browser while the gateway has traffic, and compares what it shows with /live.json and /usage.

    python3 tests/observability/page.py [--tollgate target/debug/tollgate] [--screenshots DIR]

It starts an emulator and a gateway with a ledger and an external authorizer (which lets a tenant be called anything), sends calls of three tenants, and
drives a headless Chromium by its DevTools protocol. Needs: Chromium on the PATH, and `pip install websockets`.
"""

import argparse
import base64
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from websockets.sync.client import connect

EVIL = "<img src=x onerror=\"document.title='owned'\">"
TENANTS = {"key-acme": "acme", "key-trial": "trial-7", "key-evil": EVIL}
MODELS = ["amazon.nova-lite-v1:0", "anthropic.claude-sonnet-4-20250514-v1:0", "acme.made-up-v1:0"]
# The example key of AWS's documentation, which the emulator verifies by.
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
PATIENCE = 60


class Authorizer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tenant = TENANTS.get(asked["credential"])
        told = json.dumps({"principal": {"tenant": tenant}} if tenant else {"deny": "unknown"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until(what, ask):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if told := ask():
                return told
        except OSError:
            pass
        if time.monotonic() > end:
            sys.exit(f"not in {PATIENCE} s: {what}")
        time.sleep(0.05)


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def call(port, key, model, path="converse"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"messages": [{"role": "user", "content": [{"text": "one two three four"}]}]})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", f"/model/{model}/{path}", body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, profile):
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
        self.process = subprocess.Popen([program or sys.exit("no Chromium"), *flags], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        port = until("Chromium", lambda: (profile / "DevToolsActivePort").exists() and (profile / "DevToolsActivePort").read_text().split()[0])
        tab = until("a tab", lambda: next((t for t in json.loads(get(f"http://127.0.0.1:{port}/json")) if t["type"] == "page"), None))
        self.connection = connect(tab["webSocketDebuggerUrl"], max_size=None)
        self.socket = self.connection.__enter__()
        self.count, self.complaints = 0, []
        for domain in ["Page", "Runtime", "Log"]:
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            told = json.loads(self.socket.recv(timeout=PATIENCE))
            if told.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(told["params"]["exceptionDetails"])
            if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.complaints.append(told["params"]["entry"])
            if told.get("id") == self.count:
                if "error" in told:
                    sys.exit(f"{method}: {told['error']}")
                return told["result"]

    def run(self, script):
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return told["result"].get("value")

    def size(self, width, height, dark):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def screenshot(self, file):
        self.run("scrollTo(0, 0)")
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


def yaml(listener, admin, authorizer, upstream, directory):
    return f"""
listeners: [{{ address: 127.0.0.1:{listener} }}]
admin: {{ address: 127.0.0.1:{admin} }}
identity:
  - external: {{ url: "http://127.0.0.1:{authorizer}/" }}
limits:
  - {{ name: per-minute, count: requests, rate: 600/minute, burst: 200 }}
  - {{ name: trial, count: requests, rate: 60/hour, burst: 10, tenants: [trial-*] }}
upstreams:
  emulator:
    region: us-east-1
    endpoint: http://127.0.0.1:{upstream}
    credentials: {{ access_key_id: AKIDEXAMPLE, secret_access_key_file: {directory}/secret }}
record: {{ access_log: off, ledger: {directory}/ledger.sqlite }}
"""


def compare(checks):
    wrong = [f"{what}: shown {shown!r}, told {told!r}" for what, shown, told in checks if shown != told]
    for what, shown, told in checks:
        print(f"{'same' if shown == told else 'NOT THE SAME'}  {what}: {shown}")
    if wrong:
        sys.exit("\n".join(wrong))


# What the page shows of one table, cell by cell.
TABLE = "[...document.querySelectorAll('#%s tr')].map(r => [...r.children].map(c => c.textContent))"


def number(text):
    """Of what the page shows: a whole number below 100,000 is shown as it is."""
    return int(text.replace(",", ""))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tollgate", default="target/debug/tollgate")
    arguments.add_argument("--screenshots", type=pathlib.Path)
    arguments = arguments.parse_args()
    authorizer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Authorizer)
    threading.Thread(target=authorizer.serve_forever, daemon=True).start()
    listener, admin, upstream = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        (pathlib.Path(directory) / "secret").write_text(SECRET)
        config = pathlib.Path(directory) / "gateway.yaml"
        config.write_text(yaml(listener, admin, authorizer.server_port, upstream, directory))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        emulator = subprocess.Popen([arguments.tollgate, "emulator", "--address", f"127.0.0.1:{upstream}"], **quiet)
        gateway = subprocess.Popen([arguments.tollgate, "run", "--config", str(config)], **quiet)
        browser = None
        try:
            url = f"http://127.0.0.1:{admin}"
            until("a gateway that is ready", lambda: get(f"{url}/readyz"))
            until("an emulator", lambda: socket.create_connection(("127.0.0.1", upstream)))
            browser = Browser(pathlib.Path(directory) / "profile")
            look(browser, url, listener, gateway, arguments.screenshots)
        finally:
            for process in [browser and browser.process, gateway, emulator]:
                if process:
                    process.terminate()
                    process.wait()


def look(browser, url, listener, gateway, screenshots):
    browser.size(1280, 900, dark=False)
    browser.ask("Page.navigate", url=url)
    traffic = threading.Event()

    def send():
        for turn in range(10_000):
            if traffic.is_set():
                return
            call(listener, "key-acme", MODELS[turn % 2])
            if turn % 3 == 0:
                call(listener, "key-trial", MODELS[0])
            if turn % 7 == 0:
                call(listener, "key-evil", MODELS[2], "converse-stream")
            if turn % 11 == 0:
                call(listener, "key-nobody", MODELS[0])
            time.sleep(0.05 + 0.04 * (turn // 40 % 3))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    until("a moving chart", lambda: browser.run("document.querySelectorAll('#line')[0].getAttribute('d').split('L').length > 8"))
    until("a rate above zero", lambda: browser.run("parseFloat(document.getElementById('rate').textContent) > 0"))
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
        for name, width, height, dark in [("desktop", 1280, 900, False), ("desktop-dark", 1280, 900, True), ("phone", 390, 844, False), ("phone-dark", 390, 844, True)]:
            browser.size(width, height, dark)
            overflow = browser.run("document.documentElement.scrollWidth - innerWidth")
            if overflow > 0:
                sys.exit(f"{name}: the page is {overflow} px wider than the screen")
            browser.screenshot(screenshots / f"{name}.png")
    traffic.set()
    sender.join()
    # All in flight has ended, the ledger has it, and the page has asked since.
    until("nothing in flight", lambda: json.loads(get(f"{url}/live.json"))["in_flight"] == 0)
    time.sleep(2)
    told = json.loads(get(f"{url}/live.json"))
    usage = json.loads(get(f"{url}/usage?since=1h&by=tenant"))
    browser.run("ledgerAsked = -Infinity; poll()")

    def shown():
        rows = {row[0]: row[1:] for row in browser.run(TABLE % "tenants")}
        known = {tenant["tenant"] or "(nobody)": tenant for tenant in told["tenants"]}
        return rows if rows.keys() == known.keys() and all(number(rows[name][0]) == known[name]["requests"] for name in known) else None

    rows = until("the newest figures on the page", shown)
    inputs = lambda tokens: sum(tokens[kind] for kind in ["input", "cache_read", "cache_write_5m", "cache_write_1h"])
    checks = []
    for tenant in told["tenants"]:
        name = tenant["tenant"] or "(nobody)"
        row = rows[name]
        checks += [
            (f"{name}: refused", number(row[1]), tenant["refused"]),
            (f"{name}: errors", number(row[2]), tenant["errors"]),
            (f"{name}: tokens in", number(row[3]), inputs(tenant["tokens"])),
            (f"{name}: tokens out", number(row[4]), tenant["tokens"]["output"]),
            (f"{name}: unpriced", "unpriced" in row[5], tenant["unpriced_requests"] > 0),
        ]
        exact = browser.run(f"[...document.querySelectorAll('#tenants tr')].find(r => r.children[0].textContent === {json.dumps(name)}).children[6].title")
        checks.append((f"{name}: spend, exactly", exact, "$" + tenant["cost_usd"]))
        if tenant["tenant"]:
            [kept] = [row for row in usage["rows"] if row["tenant"] == tenant["tenant"]]
            checks += [
                (f"{name}: calls in the ledger", kept["calls"], tenant["requests"]),
                (f"{name}: refused in the ledger", kept["refused"], tenant["refused"]),
                (f"{name}: tokens in the ledger", kept["tokens"], tenant["tokens"]),
                (f"{name}: money in the ledger", kept["cost_usd"], tenant["cost_usd"]),
            ]
    by_model = browser.run(TABLE % "usage")
    checks += [
        ("tenant and model, rows", len(by_model), len(json.loads(get(f"{url}/usage?since=1h"))["rows"])),
        ("tenant and model, calls", sum(number(row[2]) for row in by_model), usage["total"]["calls"]),
        ("readiness", browser.run("document.getElementById('ready').textContent"), "Ready"),
        ("version", browser.run("document.getElementById('version').textContent"), told["version"]),
        ("configuration", browser.run("document.getElementById('config').textContent"), told["config"]),
        ("refusals", {row[0]: number(row[1]) for row in browser.run(TABLE % "refusals")}, {k.replace("_", " "): v for k, v in told["refusals"].items()}),
        ("no element came of a tenant's name", browser.run("document.querySelectorAll('img').length + (document.title === 'owned')"), 0),
        ("the tenant's name is text", EVIL in rows, True),
        ("an inline script is refused", inline_script(browser), "refused"),
    ]
    complaints = [c for c in browser.complaints if "favicon" not in json.dumps(c)]
    checks.append(("what the browser complained of", [c.get("text") for c in complaints], []))
    compare(checks)
    # Where the gateway does not answer, it says so.
    gateway.terminate()
    gateway.wait()
    until("a page that says it has no answer", lambda: "does not answer" in (browser.run("document.getElementById('notice').textContent") or ""))
    if screenshots:
        browser.size(390, 844, dark=False)
        browser.screenshot(screenshots / "no-answer.png")
    print("the page says that the gateway does not answer")


def inline_script(browser):
    """Whether the page's policy keeps an injected script from running."""
    browser.run("try { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); } catch { }")
    refused = browser.run("window.ran === undefined")
    # The browser complains of it, as it should.
    browser.complaints = [c for c in browser.complaints if not re.search("Content.Security.Policy|TrustedScript|trusted type", json.dumps(c), re.I)]
    return "refused" if refused else "ran"


if __name__ == "__main__":
    os.environ.pop("http_proxy", None)
    main()
