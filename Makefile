# The tasks of a working day. `make help` lists them.

# Queries are checked against .sqlx, so nothing here needs a database at compile time, whatever DATABASE_URL says.
export SQLX_OFFLINE = true

.PHONY: help demo test test-crash test-worlds test-faults soak bench-load bench-peers bench-planner bench-plan-scale fuzz prepare check-prepare check-alerts deny sbom postgres dev-db

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

# A debug build: it is there in a fraction of the time that an optimised one takes, and made-up data is small.
demo: postgres ## the whole thing on made-up data: a simulated impact.com, a private Postgres, the status page
	cargo run --locked -- demo $(ARGS)

test: postgres ## formatter, lints and all tests
	cargo fmt --check
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	cargo check --locked --all-targets # without failpoints, as it is released
	cargo test --locked --features failpoints

test-crash: postgres ## the program killed at every named place, alone and beside a replica, then a storm. STORM_SECONDS=180 STORM_SEED=…
	cargo test --locked --features failpoints --test it -- --ignored --nocapture --test-threads=1 crash::

soak: postgres ## the program under steady work: memory, connections, errors. ARGS="MINUTES ACCOUNTS JOBS_A_SECOND"
	cargo bench --locked --bench soak -- $(ARGS)

test-worlds: postgres ## 200 random worlds: switches, faults, restatements, replicas that die. WORLDS=20, WORLD_SEED=… for one again
	WORLDS=$(or $(WORLDS),200) cargo test --locked --test it worlds:: -- --nocapture

test-faults: postgres ## the lines and the Postgres of a running daemon fail; prints how long it takes to come back
	cargo test --locked --test it faults:: -- --nocapture --skip sandbox::

bench-load: postgres ## a million clicks from HTTP to committed rows, beside `psql \copy`; whole jobs; memory. ARGS="ROWS ROUNDS BIG_MB"
	cargo bench --locked --bench load -- $(ARGS)

# Nothing is downloaded for it: it uses the tools that are in this Python, and says how to have them.
PEERS_PYTHON ?= $(firstword $(wildcard target/peers/bin/python3) python3)

bench-peers: postgres ## dlt, Sling and ADBC with the file of bench-load, beside `psql \copy`; those that are installed. ARGS="ROWS ROUNDS"
	$(PEERS_PYTHON) tests/bench/peers.py $(ARGS)

bench-plan-scale: postgres ## planning for 1,000 accounts with 1,000,000 cells: seconds of each step, memory, entries read
	cargo bench --locked --bench plan_scale -- $(ARGS)

bench-planner: ## our planner beside two simple strategies: a brand with 25 programs over 60 simulated days
	cargo bench --locked --bench planner -- $(ARGS)

fuzz: ## random files and values against the readers, after the coverage they bring; all of them, 30 s each. ARGS="csv 60"
	.ci/fuzz $(ARGS)

prepare: ## .sqlx anew, after a query or a migration has changed
	.ci/prepare

check-prepare: ## fails where .sqlx does not fit queries and migrations
	.ci/prepare --check

deny: ## licences, banned crates and sources of what we depend on, and known vulnerabilities where their database can be had
	.ci/deny

sbom: ## what the program is made of, as target/sbom.cdx.json
	.ci/sbom

check-alerts: ## the alert rules for Prometheus, checked and played; installs promtool where it is missing
	promtool=$$(.ci/promtool | tail -1) && $$promtool check rules deploy/prometheus/alerts.yaml && $$promtool test rules deploy/prometheus/alerts_test.yaml

postgres: ## the Postgres programs, installed where they are missing
	@.ci/postgres >/dev/null

dev-db: ## a throw-away database with the migrations applied; prints its URL
	@.ci/dev-db start
