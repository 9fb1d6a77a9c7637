r"""How long other loaders take for the click file of `make bench-load`, beside `psql \copy` of the same file.

`make bench-peers`, or `python3 tests/bench/peers.py [ROWS] [ROUNDS]`. The server is that of `DATABASE_URL`, else the
one that `.ci/dev-db start` gives. Each tool is used as its documentation has it for a file that is read again and again
into a table with a key; what is not installed is skipped. Each round does every tool once, each time starting with
another, from the same local files: a first load, then re-reads in which 1 %, 9 % and 10 % of the rows have another
payout. After every load the whole table is compared with what psql copied, cell by cell; a tool whose table differs
gets words, not figures.

Ratios are medians over the median of `psql \copy` of a whole file into an empty table with a primary key. What psql and
Sling take to start counts, as each is a program; dlt and ADBC are libraries, imported beforehand.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

CHECKOUT = Path(__file__).resolve().parents[2]

# The columns that are not text, as tests/bench/load/clicks.rs has them.
KINDS = {
    "ProgramId": "bigint",
    "MediaId": "bigint",
    "AdId": "bigint",
    "EventDate": "timestamptz",
    "UniqueClick": "boolean",
    "CpcBid": "numeric(18,6)",
    "Payout": "numeric(18,6)",
}

# What is loaded one after the other, and which file brings it about: that with 0, 1 or 10 % of the payouts changed.
STEPS = [
    ("first load", "clicks-0.csv"),
    ("re-read, 1 % changed", "clicks-1.csv"),
    ("re-read, 9 % changed", "clicks-10.csv"),
    ("re-read, 10 % changed", "clicks-0.csv"),
]

INSTALL = """To have them all: python3 -m venv target/peers
                  target/peers/bin/pip install 'dlt[postgres]' pyarrow adbc-driver-postgresql sling-linux-amd64
PEERS_PYTHON names another Python to use, SLING_BINARY another Sling."""


class Missing(Exception):
    """A tool is not there; says what to install."""


class Server:
    """A database that may be written to, asked by way of psql."""

    def __init__(self, url):
        self.url = url

    def run(self, *statements):
        """Runs statements or backslash commands, each on its own; the rows of the last as text."""
        commands = [part for statement in statements for part in ("-c", statement)]
        psql = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", self.url]
        env = os.environ | {"PGOPTIONS": "-c client_min_messages=warning"}
        done = subprocess.run(psql + commands, capture_output=True, text=True, env=env)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def make_schema(self, schema):
        self.run(f"drop schema if exists {schema} cascade", f"create schema {schema}")

    def make_table(self, table, columns):
        """A table with a column for each of the file's, and the key that every tool is told of."""
        kinds = ", ".join(f"{snake_case(name)} {kind_of(name)}" for name in columns)
        self.run(f"create table {table} ({kinds}, primary key (id))")

    def copy(self, table, file):
        self.run(rf"\copy {table} from '{file}' (format csv, header)")

    def wal_bytes(self):
        return float(self.run("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


def kind_of(column):
    return KINDS.get(column, "text")


def snake_case(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def columns_of(file):
    with open(file, encoding="utf-8") as lines:
        return lines.readline().strip().split(",")


class Psql:
    r"""`psql \copy`, which can only fill an empty table."""

    steps = STEPS[:1]

    def __init__(self, server):
        self.server, self.name, self.table = server, r"psql \copy", "peers_psql.clicks"

    def start_over(self, columns):
        self.server.make_schema("peers_psql")
        self.server.make_table(self.table, columns)

    def load(self, file):
        self.server.copy(self.table, file)


class Dlt:
    """dlt: a `filesystem` resource read by pyarrow, `merge` by `upsert`, the load files in parquet, copied by ADBC.

    Of its formats and strategies for Postgres this is the fastest pair. Without the ADBC driver the files are CSV.
    """

    title = "dlt"
    steps = STEPS

    def __init__(self, server, scratch):
        self.home = scratch / "dlt"
        os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
        os.environ["DLT_DATA_DIR"] = str(self.home)
        self.dlt = import_or_skip("dlt", "'dlt[postgres]'")
        import_or_skip("psycopg2", "'dlt[postgres]'")
        import_or_skip("pyarrow", "pyarrow")
        self.format = "parquet" if find_spec("adbc_driver_postgresql") else "csv"
        self.server = server
        self.name = f"{self.title} {version('dlt')} ({self.format}, upsert)"
        self.table = "peers_dlt.clicks"

    def start_over(self, _columns):
        for schema in ("peers_dlt", "peers_dlt_staging"):
            self.server.run(f"drop schema if exists {schema} cascade")
        shutil.rmtree(self.home, ignore_errors=True)
        self.pipeline = self.dlt.pipeline(
            "peers",
            destination=self.dlt.destinations.postgres(with_password(self.server.url)),
            dataset_name="peers_dlt",
            pipelines_dir=str(self.home),
        )

    def load(self, file):
        from dlt.sources.filesystem import filesystem

        @self.dlt.transformer(
            name="clicks",
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            primary_key="Id",
            columns={"Id": {"unique": True}},
        )
        def clicks(items):
            for item in items:
                with item.open() as content:
                    yield from arrow_batches(content, columns_of(file))

        files = filesystem(file.parent.as_uri(), file_glob=file.name)
        self.pipeline.run(files | clicks, loader_file_format=self.format).raise_on_failed_jobs()


class Sling:
    """Sling: `sling run` in `incremental` mode with a primary key, kinds and nulls as the file has them."""

    title = "Sling"
    steps = STEPS

    def __init__(self, server, scratch):
        self.binary = find_sling()
        self.server = server
        self.table = "peers_sling.clicks"
        url = server.url
        if "sslmode=" not in url:  # Sling takes it that every server speaks TLS
            url += ("&" if "?" in url else "?") + "sslmode=disable"
        own = {"PEERS": url, "SLING_HOME_DIR": str(scratch / "sling"), "SLING_DISABLE_TELEMETRY": "true"}
        self.env = os.environ | own
        self.name = f"{self.title} {self.call('--version').split()[-1]} (incremental)"

    def start_over(self, _columns):
        self.server.make_schema("peers_sling")

    def load(self, file):
        kinds = {**KINDS, "EventDate": "timestampz", "UniqueClick": "bool"}
        columns = ", ".join(f'{name}: "{kind.replace("numeric", "decimal")}"' for name, kind in kinds.items())
        self.call(
            *("run", "--src-stream", file.as_uri(), "--src-options", "{empty_as_null: true}"),
            *("--columns", f"{{{columns}}}", "--tgt-conn", "PEERS", "--tgt-object", self.table),
            *("--tgt-options", "{table_keys: {unique: [id]}}", "--mode", "incremental", "--primary-key", "id"),
        )

    def call(self, *arguments):
        done = subprocess.run([self.binary, *arguments], capture_output=True, text=True, env=self.env)
        if done.returncode != 0:
            raise RuntimeError((done.stderr.strip() or done.stdout.strip())[-300:])
        return done.stdout.strip()


class Adbc:
    """The ADBC driver: pyarrow reads the file, `adbc_ingest` fills a stage, `merge` writes what is new or other."""

    title = "ADBC"
    steps = STEPS

    def __init__(self, server, _scratch):
        import_or_skip("pyarrow", "pyarrow")
        self.adbc = import_or_skip("adbc_driver_postgresql.dbapi", "adbc-driver-postgresql")
        self.server = server
        self.name = f"{self.title} {version('adbc-driver-postgresql')} (ingest, merge)"
        self.table = "peers_adbc.clicks"

    def start_over(self, columns):
        self.server.make_schema("peers_adbc")
        self.server.make_table(self.table, columns)

    def load(self, file):
        columns = columns_of(file)
        ours = [snake_case(name) for name in columns]
        theirs = [f'stage."{name}"' for name in columns]
        merge = f"""
            merge into {self.table} clicks using stage on clicks.id = stage."Id"
            when matched and ({", ".join(f"clicks.{name}" for name in ours)}) is distinct from ({", ".join(theirs)})
                then update set {", ".join(f"{name} = {value}" for name, value in zip(ours, theirs, strict=True))}
            when not matched then insert ({", ".join(ours)}) values ({", ".join(theirs)})
        """
        with self.adbc.connect(self.server.url) as conn, conn.cursor() as cursor, open(file, "rb") as content:
            cursor.adbc_ingest("stage", arrow_batches(content, columns), mode="create", temporary=True)
            cursor.execute(merge)
            conn.commit()


def import_or_skip(module, package):
    try:
        return import_module(module)
    except ImportError as error:
        raise Missing(f"no {module.partition('.')[0]} ({error}): pip install {package}") from error


def find_sling():
    """The program itself: the `sling` of the package of that name is a script that would download it."""
    candidates = [os.environ.get("SLING_BINARY")]
    for package in ("sling_linux_amd64", "sling_linux_arm64", "sling_mac_amd64", "sling_mac_arm64"):
        if find_spec(package):
            candidates.append(import_module(package).SLING_BIN)
    candidates.append(shutil.which("sling"))
    candidates += sorted(Path.home().glob(".sling/bin/sling/*/sling"), reverse=True)
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            with open(candidate, "rb") as program:
                if program.read(2) != b"#!":
                    return str(candidate)
    raise Missing("no program of it found: pip install sling-linux-amd64, or set SLING_BINARY")


def arrow_batches(content, columns):
    """The file as pyarrow reads it by the piece, every column of its kind, empty cells as nulls."""
    import pyarrow
    from pyarrow import csv

    kinds = {
        "text": pyarrow.string(),
        "bigint": pyarrow.int64(),
        "timestamptz": pyarrow.timestamp("us", "UTC"),
        "boolean": pyarrow.bool_(),
        "numeric(18,6)": pyarrow.decimal128(18, 6),
    }
    convert = csv.ConvertOptions(
        column_types={name: kinds[kind_of(name)] for name in columns}, null_values=[""], strings_can_be_null=True
    )
    return csv.open_csv(content, csv.ReadOptions(block_size=8 << 20), convert_options=convert)


def with_password(url):
    """dlt wants a password, even for a server that asks for none."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at and ":" not in user:
        user += ":none"
    return urlunsplit(parts._replace(scheme="postgresql", netloc=user + at + host))


def what_is_wrong(server, table, file, columns):
    """Compares a tool's table with what psql made of the file; None if they hold the same."""
    names = server.run(f"select attname from pg_attribute where attrelid = '{table}'::regclass and attnum > 0").split()
    theirs = {name.replace("_", "").lower(): name for name in names}
    if lacking := [name for name in columns if name.lower() not in theirs]:
        return f"no column for {', '.join(lacking)}"
    key = f'theirs."{theirs["id"]}"'
    differ = [
        f'ours.{snake_case(name)} is distinct from theirs."{theirs[name.lower()]}"::{kind_of(name)}' for name in columns
    ]
    counts = server.run(
        f"""
        select count(*) filter (where {key} is null), count({key}) - count(distinct ours.id),
            {", ".join(f"count(*) filter (where ours.id = {key} and {condition})" for condition in differ)}
        from {reference(file)} ours full join {table} theirs on ours.id = {key}
        """
    )
    missing, more, *cells = (int(count) for count in counts.split("|"))
    rows = {"missing": missing, "too many": more + missing}
    wrong = [f"{count} rows {what}" for what, count in rows.items() if count > 0]
    wrong += [f"{count} cells of {name} differ" for name, count in zip(columns, cells, strict=True) if count > 0]
    return ", ".join(wrong) or None


def reference(file):
    return "peers_reference." + file.stem.replace("-", "_")


def measure(server, peer, files, columns, results):
    """Does every step with a tool, and notes seconds and WAL of each."""
    peer.start_over(columns)
    for step, file in peer.steps:
        server.run("checkpoint")
        wal = server.wal_bytes()
        began = time.monotonic()
        peer.load(files / file)
        seconds = time.monotonic() - began
        results.setdefault(step, []).append((seconds, server.wal_bytes() - wal))
        if wrong := what_is_wrong(server, peer.table, files / file, columns):
            raise RuntimeError(f"loaded wrong, {step}: {wrong}")


def report(psql, results, failures):
    """Prints the figures of those that load right, and what is the matter with the others."""
    base = statistics.median(seconds for seconds, _ in results[psql]["first load"])
    print(f"\n{'':<58} {'seconds':>8} {'ratio':>6} {'WAL, MB':>8}")
    for peer, steps in results.items():
        if peer in failures:
            print(f"{peer.name}: {failures[peer]}")
            continue
        for step, measured in steps.items():
            seconds, wal = (statistics.median(figures) for figures in zip(*measured, strict=True))
            print(f"{f'{peer.name}: {step}':<58} {seconds:>8.2f} {seconds / base:>6.2f} {wal / 2**20:>8.0f}")


def compare(server, peers, rows, rounds, files):
    """Runs the rounds; the first of the peers is psql."""
    write = ["cargo", "bench", "--profile", "dev", "--locked", "--bench", "load", "--", "write", files, str(rows)]
    subprocess.run(write, cwd=CHECKOUT, check=True)
    columns = columns_of(files / "clicks-0.csv")
    server.make_schema("peers_reference")
    for file in {file for _, file in STEPS}:
        server.make_table(reference(files / file), columns)
        server.copy(reference(files / file), files / file)
    megabytes = (files / "clicks-0.csv").stat().st_size >> 20
    version_of_server = server.run("show server_version").split()[0]
    print(f"{rows} rows, {len(columns)} columns, {megabytes} MB, {rounds} rounds, Postgres {version_of_server}")

    results, failures = {peer: {} for peer in peers}, {}
    for turn in range(rounds):
        first = turn % len(peers)
        for peer in peers[first:] + peers[:first]:
            if peer not in failures:
                try:
                    measure(server, peer, files, columns, results[peer])
                except Exception as error:  # whatever a tool raises is a finding about it
                    failures[peer] = str(error) or repr(error)
        print(f"round {turn + 1} of {rounds}", flush=True)
    if peers[0] in failures:
        sys.exit(f"psql itself failed: {failures[peers[0]]}")
    report(peers[0], results, failures)


def main():
    numbers = [int(argument) for argument in sys.argv[1:]]
    rows, rounds = (numbers + [100_000, 3][len(numbers) :])[:2]
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        scratch = Path(directory)
        url = os.environ.get("DATABASE_URL")
        if not url:
            start = [CHECKOUT / ".ci/dev-db", "start"]
            url = subprocess.run(start, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        server = Server(url)
        peers, missing = [Psql(server)], {}
        for tool in (Dlt, Sling, Adbc):
            try:
                peers.append(tool(server, scratch))
            except Missing as error:
                missing[tool.title] = error
        for name, error in missing.items():
            print(f"{name} is skipped, {error}")
        if missing:
            print(INSTALL, flush=True)
        if len(peers) > 1:
            try:
                compare(server, peers, rows, rounds, scratch / "files")
            finally:
                for schema in ("reference", "psql", "dlt", "dlt_staging", "sling", "adbc"):
                    server.run(f"drop schema if exists peers_{schema} cascade")


if __name__ == "__main__":
    main()
