"""Servers and clients of bench/serve: `qtf serve` or llama.cpp's server on a free port of this machine, and requests to
either with Python's standard library alone."""
import http.client
import json
import os
import socket
import subprocess
import time


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """A server while it runs; `ready_ms`: from its start until it takes requests."""

    def __init__(self, command, port):
        started = time.monotonic()
        self.port = port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() - started > 60:
                self.process.kill()
                raise SystemExit(f"{' '.join(map(str, command))} did not start")
            time.sleep(0.001)
        self.ready_ms = 1e3 * (time.monotonic() - started)

    def is_ready(self):
        try:
            return self.call("GET", "/health")[0] == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def call(self, method, path, body=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def complete(self, body):
        """The answer to a request for texts."""
        status, answer = self.call("POST", "/v1/completions", json.dumps(body))
        if status != 200:
            raise SystemExit(f"a request was answered {status}: {answer[:300]}")
        return json.loads(answer)

    def first_token_ms(self, body):
        """Until the first piece of the streamed answer; the rest is read too."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        begin = time.monotonic()
        connection.request("POST", "/v1/completions", json.dumps({**body, "stream": True}),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.readline()
        took = 1e3 * (time.monotonic() - begin)
        response.read()
        connection.close()
        return took

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serve_qtf(qtf, model, threads=0, rate=1e6):
    port = free_port()
    return Server([qtf, "serve", model, "--port", str(port), "--threads", str(threads), "--rate", str(rate)], port)


def serve_llama(program, model, threads, slots, context):
    port = free_port()
    return Server([program, "-m", model, "--host", "127.0.0.1", "--port", str(port), "-t", str(threads), "-tb",
                   str(threads), "-np", str(slots), "-c", str(slots * context), "--no-webui"], port)
