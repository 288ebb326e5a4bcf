#!/usr/bin/env python3
"""A second verifier of audit files, written from docs/audit.md with Python's standard library alone.

audit_verifier.py FILE [COUNT ROOT]: prints each problem found, then "N records, root R"; exit status 1 if there
is a problem, 2 if FILE is no audit file. It agrees with `qtf audit verify`; a test holds that.
"""
import hashlib, json, os, re, sqlite3, sys

FIELDS, DIGITS, HEX = ["data", "index", "kind", "previous", "run", "sequence", "time"], \
    re.compile(r"0|[1-9][0-9]*"), re.compile(r"[0-9a-f]*")
sha256 = lambda text: hashlib.sha256(text).digest()


class Tree:  # RFC 6962's
    def __init__(self):
        self.count, self.peaks = 0, []

    def add(self, leaf):
        self.count += 1
        self.peaks.append((leaf, 1))
        while len(self.peaks) > 1 and self.peaks[-2][1] == self.peaks[-1][1]:
            (left, size), (right, _) = self.peaks[-2:]
            self.peaks[-2:] = [(sha256(b"\1" + left + right), 2 * size)]

    def root(self):
        root = self.peaks[-1][0] if self.peaks else sha256(b"")
        for peak, _ in reversed(self.peaks[:-1]):
            root = sha256(b"\1" + peak + root)
        return root


def parse(text):
    """The record's fields; ValueError if the bytes are not in the one spelling."""
    record = json.loads(text.decode("ascii"), parse_float=float)
    spelled = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    if spelled != text or not isinstance(record, dict) or sorted(set(record) - {"payload"}) != FIELDS:
        raise ValueError("not canonical")
    hashes = [record["previous"], record.get("payload", "0" * 64), record["run"] * 2]
    if not all(isinstance(record[key], str) for key in record if key != "data"):
        raise ValueError("a field is no string")
    if not all(DIGITS.fullmatch(record[key]) for key in ("index", "sequence", "time")) or \
            not all(HEX.fullmatch(one) and len(one) == 64 for one in hashes):
        raise ValueError("a number or a hash is none")
    return record


def rows_of(path):
    database = sqlite3.connect("file:%s?mode=ro" % path.replace("%", "%25").replace("?", "%3f").replace("#", "%23"), uri=True)
    if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        return []
    if database.execute("PRAGMA application_id").fetchone()[0] != 0x51544641:
        raise ValueError("no audit file")
    return database.execute("SELECT sequence, bytes, hash, payload FROM records ORDER BY sequence")


def verify(path, count=None, root=None):
    problems, tree, chains, expected, last, closed = [], Tree(), {}, 1, b"\0" * 32, False
    anchored = Tree().root() if count == 0 else None
    folder, name = os.path.split(os.path.abspath(path))
    present = {int(f[len(name) + 1:] or 1) for f in os.listdir(folder)
               if f == name or re.fullmatch(re.escape(name) + r"\.([2-9]|[1-9][0-9]+)", f)}
    for number in range(1, max(present) + 1):
        if number not in present:
            return problems + ["segment %d is missing" % number], tree
        before, first, closed, segment = tree.root(), True, False, path if number == 1 else "%s.%d" % (path, number)
        for sequence, text, stored, payload in rows_of(segment):
            typed = isinstance(text, bytes) and isinstance(stored, bytes) and isinstance(payload, (bytes, type(None)))
            text = text if isinstance(text, bytes) else str(text).encode()
            leaf = sha256(b"\0" + text)
            tree.add(leaf)
            bad = lambda what: problems.append("record %d: %s" % (sequence, what))
            if not typed or leaf != stored: bad("changed")
            if sequence != expected: bad("comes where %d should" % expected)
            expected = sequence + 1
            if tree.count == count: anchored = tree.root()
            try: record = parse(text)
            except ValueError as error:
                bad(str(error))
                continue
            if record["sequence"] != str(sequence): bad("moved")
            if record.get("payload") != (None if payload is None else sha256(payload if typed else b"").hex()): bad("payload")
            if chains.get(record["run"], ("00" * 32, 0)) != (record["previous"], int(record["index"])): bad("chain")
            chains[record["run"]] = (leaf.hex(), int(record["index"]) + 1)
            if closed or first != (record["kind"] == "segment.open"): bad("not where segments open and close")
            if first and record["data"] != {"format": "1", "segment": str(number), "count": str(tree.count - 1),
                                            "last": last.hex(), "root": before.hex()}: bad("opens otherwise")
            first, closed, last = False, record["kind"] == "segment.close", leaf
    if closed: problems.append("segment %d is missing" % (number + 1))
    if count is not None and tree.count < count: problems.append("the end was cut off")
    elif root is not None and anchored.hex() != root: problems.append("another root")
    return problems, tree


if __name__ == "__main__":
    try:
        found, tree = verify(sys.argv[1], *([int(sys.argv[2]), sys.argv[3]] if len(sys.argv) > 2 else []))
    except (sqlite3.DatabaseError, ValueError) as error:
        sys.exit(print(error) or 2)
    print("\n".join(found + ["%d records, root %s" % (tree.count, tree.root().hex())]))
    sys.exit(1 if found else 0)
