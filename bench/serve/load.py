#!/usr/bin/python3
"""What `qtf serve` does under load, and beside llama.cpp's server.

  bench/serve/load.py MODEL                              tokens/s of 1 and 64 callers, first tokens, time to start
  bench/serve/load.py MODEL --minutes 60                 mixed load: callers who hang up, speak nonsense, send too much
                                                         or read slowly; every answer held against the same request alone
  bench/serve/load.py MODEL --peer LLAMA_SERVER          1 and 8 callers, the same model as a GGUF file (F32) there

Python's standard library only; all traffic stays on this machine.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

from server import serve_llama, serve_qtf

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, os.pardir))
from where import ROOT, measured_at

PROMPTS = ["The history of the ", "In the year 1900 , ", "A small ", "She said that ", "The first ", "It was "]


def parse():
    parser = argparse.ArgumentParser(description="Loads qtf serve")
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--qtf", default=os.path.join(ROOT, "build", "release", "bin", "qtf"))
    parser.add_argument("--clients", type=int, default=64, help="callers at once (%(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="of a text (%(default)s)")
    parser.add_argument("--texts", type=int, default=4, help="of each caller (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="beside a peer: pairs of runs (%(default)s)")
    parser.add_argument("--minutes", type=float, help="mixed load for so long instead")
    parser.add_argument("--peer", help="the program llama-server of llama.cpp: compare instead")
    parser.add_argument("--json", help="file to save the figures in, with machine and commit")
    return parser.parse_args()


def request(flags, number):
    return {"prompt": PROMPTS[number % len(PROMPTS)], "max_tokens": flags.tokens, "seed": number, "temperature": 0.8}


def tokens_per_second(flags, server, clients, texts):
    """Of all callers together, each asking for one text after the other."""
    def caller(who):
        return sum(server.complete(request(flags, who * texts + i))["usage"]["completion_tokens"] for i in range(texts))

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        total = sum(pool.map(caller, range(clients)))
    return total / (time.monotonic() - begin)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_load(flags):
    starts = []
    for _ in range(9):
        with serve_qtf(flags.qtf, flags.model, flags.threads) as server:
            starts.append(server.ready_ms)
    figures = {"ready_ms": statistics.median(starts)}
    with serve_qtf(flags.qtf, flags.model, flags.threads) as server:
        tokens_per_second(flags, server, 2, 1)
        figures["one"] = tokens_per_second(flags, server, 1, 8)
        figures["all"] = tokens_per_second(flags, server, flags.clients, flags.texts)
        with concurrent.futures.ThreadPoolExecutor(flags.clients) as pool:
            first = list(pool.map(lambda i: server.first_token_ms(request(flags, i)), range(2 * flags.clients)))
        figures["first_p50_ms"], figures["first_p99_ms"] = percentile(first, 0.5), percentile(first, 0.99)
        alone = [server.first_token_ms({**request(flags, 0), "prompt": f"{i} " + "word " * 100, "max_tokens": 2})
                 for i in range(9)]
        figures["first_of_a_long_prompt_ms"] = statistics.median(alone)
    print("| what | figure |\n|---|---|")
    print(f"| one caller | {figures['one']:.0f} tokens/s |")
    print(f"| {flags.clients} callers | {figures['all']:.0f} tokens/s, {figures['all'] / figures['one']:.2f} times |")
    print(f"| first token of {flags.clients} callers' texts | p50 {figures['first_p50_ms']:.0f} ms, p99 "
          f"{figures['first_p99_ms']:.0f} ms |")
    print(f"| first token of a prompt of about 100 words, alone | {figures['first_of_a_long_prompt_ms']:.1f} ms |")
    print(f"| ready after the start, median of {len(starts)} | {figures['ready_ms']:.0f} ms |")
    return figures


# --- mixed load

def hang_up(server, flags, number):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/completions", json.dumps({**request(flags, number), "stream": True}),
                       {"Content-Type": "application/json"})
    connection.getresponse().read(random.Random(number).randrange(1, 400))
    connection.close()
    return True


def speak_nonsense(server, _, number):
    bodies = ["{", "[]", '{"prompt": 5}', '{"prompt": "a", "max_tokens": -1}', '{"prompt": "a", "colour": 1}', "\x00"]
    return server.call("POST", "/v1/completions", bodies[number % len(bodies)])[0] == 400


def send_too_much(server, _, number):
    try:
        return server.call("POST", "/v1/completions", "x" * (2 << 20))[0] == 413
    except OSError:
        return True  # it hangs up while more is sent


def read_slowly(server, flags, number):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({**request(flags, number), "stream": True}),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    for _ in range(5):
        time.sleep(0.05)
        response.read(64)
    whole = response.read()
    connection.close()
    return whole.endswith(b"data: [DONE]\n\n")


MISBEHAVIOUR = [hang_up, speak_nonsense, send_too_much, read_slowly]


def measure_mixed(flags):
    """Every whole answer is held against the same request's alone."""
    known = 24
    with serve_qtf(flags.qtf, flags.model, flags.threads) as server:
        alone = [server.complete(request(flags, i))["choices"][0]["text"] for i in range(known)]
        end = time.monotonic() + 60 * flags.minutes
        counts = {"answers": 0, "wrong": 0, "misbehaviour": 0, "mishandled": 0}

        def caller(who):
            draws = random.Random(who)
            found = dict.fromkeys(counts, 0)
            while time.monotonic() < end:
                number = draws.randrange(known)
                if draws.random() < 0.5:
                    found["answers"] += 1
                    found["wrong"] += server.complete(request(flags, number))["choices"][0]["text"] != alone[number]
                else:
                    found["misbehaviour"] += 1
                    found["mishandled"] += not draws.choice(MISBEHAVIOUR)(server, flags, number)
            return found

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            running = [pool.submit(caller, who) for who in range(16)]
            time.sleep(min(20, 15 * flags.minutes))
            warm = server.resident_bytes()
            for one in running:
                for name, count in one.result().items():
                    counts[name] += count
        last = server.resident_bytes()
        alive = server.process.poll() is None and server.is_ready()
    figures = {**counts, "resident_warm": warm, "resident_last": last, "alive": alive}
    print(f"{flags.minutes:g} minutes, 16 callers: {counts['answers']} answers, {counts['wrong']} of them not those of "
          f"the request alone; {counts['misbehaviour']} callers misbehaved, {counts['mishandled']} of them mishandled; "
          f"resident {warm / 1e6:.1f} MB once warm, {last / 1e6:.1f} MB at the end ({last / warm - 1:+.1%}); "
          f"{'it still answers' if alive else 'IT DIED'}")
    if counts["wrong"] or counts["mishandled"] or not alive:
        sys.exit(1)
    return figures


# --- beside llama.cpp's server

def measure_peer(flags):
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(flags.model, "config.json")) as file:
        context = json.load(file)["max_position_embeddings"]
        gguf = os.path.join(folder, "model.gguf")
        subprocess.run([flags.qtf, "convert", flags.model, gguf], check=True, stdout=subprocess.DEVNULL)
        runs = {1: [], 8: []}
        with serve_qtf(flags.qtf, flags.model, flags.threads) as ours, \
                serve_llama(flags.peer, gguf, flags.threads, max(runs), context) as theirs:
            for clients, found in runs.items():
                for server in (ours, theirs):
                    tokens_per_second(flags, server, clients, 1)
                for _ in range(flags.rounds):
                    found.append([tokens_per_second(flags, server, clients, flags.texts) for server in (ours, theirs)])
    print("| callers | qtf tokens/s | llama.cpp tokens/s | ratio |\n|---|---|---|---|")
    for clients, found in runs.items():
        mine, peer = (statistics.median(side) for side in zip(*found))
        print(f"| {clients} | {mine:.0f} | {peer:.0f} | {statistics.median(a / b for a, b in found):.2f} |")
    return {"runs": runs}


def main():
    flags = parse()
    if flags.peer:
        figures = measure_peer(flags)
    elif flags.minutes:
        figures = measure_mixed(flags)
    else:
        figures = measure_load(flags)
        print("\npeer missing: give --peer LLAMA_SERVER to compare")
    if flags.json:
        with open(flags.json, "w") as file:
            json.dump({"where": measured_at(**vars(flags)), **figures}, file, indent=1)


if __name__ == "__main__":
    main()
