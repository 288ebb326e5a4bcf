#!/usr/bin/python3
"""Runs `qtf serve` as a user would and talks to it over HTTP: tests/serve.py QTF MODEL

Start and address, texts whole and streamed by many callers at once with the same answers as one, keys, TLS, a reload
by SIGHUP, an end by SIGTERM that finishes what was begun, refusals to start, and README's calls with curl. Python's standard library only; all
traffic stays on this machine."""
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

QTF, MODEL = "", ""
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEY = "a key of this test"


class Server:
    """A running `qtf serve` on a free port."""

    def __init__(self, *options, environment=None):
        self.started = time.monotonic()
        self.process = subprocess.Popen([QTF, "serve", MODEL, "--port", "0", *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        line = self.process.stdout.readline()
        found = re.fullmatch(r"serving at https?://127\.0\.0\.1:(\d+)\n", line)
        if not found:
            raise AssertionError(f"it said {line!r}: {self.process.stderr.read()}")
        self.ready_seconds = time.monotonic() - self.started
        self.port = int(found.group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def call(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        send = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers or {}
        connection.request(method, path, json.dumps(body) if body is not None else None, send)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def complete(self, headers=None, **body):
        status, text = self.call("POST", "/v1/completions", body, headers)
        if status != 200:
            raise AssertionError(text)
        return json.loads(text)

    def stream(self, **body):
        _, text = self.call("POST", "/v1/completions", {**body, "stream": True})
        lines = [line[6:] for line in text.split("\n\n") if line]
        assert lines[-1] == "[DONE]", lines[-1]
        return "".join(json.loads(line)["choices"][0]["text"] for line in lines[:-1])


class Serve(unittest.TestCase):
    def test_answers_and_streams_the_same(self):
        with Server() as server:
            self.assertEqual(server.call("GET", "/health"), (200, '{"status":"ok"}'))
            answer = server.complete(prompt="The ", max_tokens=20, seed=1)
            self.assertEqual(answer["usage"]["completion_tokens"], 20)
            self.assertEqual(server.stream(prompt="The ", max_tokens=20, seed=1), answer["choices"][0]["text"])
            status, page = server.call("GET", "/")
            self.assertEqual((status, "<h1>" in page), (200, True))

    def test_many_callers_get_what_one_gets(self):
        prompts = [f"In {year} the" for year in range(1900, 1924)]
        with Server() as server:
            alone = [server.complete(prompt=p, max_tokens=24, seed=i)["choices"][0]["text"]
                     for i, p in enumerate(prompts)]
            with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
                together = list(pool.map(lambda p: server.stream(prompt=p[1], max_tokens=24, seed=p[0]),
                                         enumerate(prompts)))
            self.assertEqual(alone, together)

    def test_asks_for_a_key(self):
        with Server(environment={"QTF_API_KEYS": f"other,{KEY.replace(' ', '-')}"}) as server:
            self.assertEqual(server.call("GET", "/v1/models")[0], 401)
            self.assertEqual(server.call("GET", "/v1/models", None, {"Authorization": "Bearer no"})[0], 401)
            good = {"Authorization": f"Bearer {KEY.replace(' ', '-')}"}
            self.assertEqual(server.call("GET", "/v1/models", None, good)[0], 200)

    @unittest.skipUnless(shutil.which("openssl"), "skipped: openssl is missing")
    def test_speaks_tls_only_where_it_has_a_certificate(self):
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "certificate.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                            certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
                            "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
            with Server("--certificate", certificate, "--certificate-key", key) as server:
                trusting = ssl.create_default_context(cafile=certificate)
                connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=trusting)
                connection.request("POST", "/v1/completions", json.dumps({"prompt": "The ", "max_tokens": 8}),
                                   {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
                self.assertEqual(answer["usage"]["completion_tokens"], 8)
                connection.close()
                with self.assertRaises(ssl.SSLCertVerificationError):
                    http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60,
                                                context=ssl.create_default_context()).request("GET", "/health")
                with self.assertRaises((http.client.HTTPException, OSError)):
                    server.call("GET", "/health")

    @unittest.skipUnless(shutil.which("curl"), "skipped: curl is missing")
    def test_readmes_calls_with_curl(self):
        with open(os.path.join(ROOT, "README.md")) as file:
            calls = [line.strip() for line in file if line.startswith("curl ")]
        self.assertGreaterEqual(len(calls), 3)
        with Server() as server:
            for call in calls:
                done = subprocess.run(["bash", "-c", call.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")],
                                      capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                if '"stream": true' in call:
                    lines = [line[6:] for line in done.stdout.split("\n\n") if line]
                    self.assertEqual(lines[-1], "[DONE]", call)
                    text = "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1])
                else:
                    answer = json.loads(done.stdout)
                    self.assertNotIn("error", answer, call)
                    text = answer["choices"][0]["text"]
                self.assertTrue(text.strip(), call)

    def test_opens_the_model_again(self):
        with Server() as server:
            before = server.complete(prompt="The ", max_tokens=8, seed=1)["choices"]
            server.process.send_signal(signal.SIGHUP)
            self.assertEqual(server.process.stderr.readline(), "the model was opened again\n")
            self.assertEqual(server.complete(prompt="The ", max_tokens=8, seed=1)["choices"], before)

    def test_finishes_what_was_begun(self):
        with Server() as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.complete, prompt="The ", max_tokens=300)
            while '\nqtf_tokens_total 0\n' in server.call("GET", "/metrics")[1]:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(answer.result()["usage"]["completion_tokens"], 300)
            self.assertEqual(server.process.wait(20), 0)

    def test_says_why_it_does_not_start(self):
        with Server() as server:
            for options, says in [(["--port", str(server.port)], "choose another --port"),
                                  (["--host", "0.0.0.0"], "QTF_API_KEYS"),
                                  (["--host", "somewhere"], "QTF_API_KEYS"),
                                  (["--certificate", "x.pem"], "--certificate-key")]:
                result = subprocess.run([QTF, "serve", MODEL, *options], capture_output=True, text=True, timeout=60)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(says, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1)


if __name__ == "__main__":
    QTF, MODEL = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0]], verbosity=2)
