# The tasks of a working day. `make help` lists them.

# Queries are checked against .sqlx, so nothing here needs a database at compile time, whatever DATABASE_URL says.
export SQLX_OFFLINE = true

.PHONY: help demo test test-browser test-crash test-worlds test-faults soak bench-load bench-peers bench-planner bench-plan-scale bench-page bench-query fuzz prepare check-prepare check-alerts deny sbom postgres dev-db \
	release install install-files deb image image-prebuilt test-deploy test-containers test-dbt test-distributed

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
	$(MAKE) test-distributed

# Where TEST_CITUS_URL names a cluster, on that one, and restarts too; else with the same statements on a plain Postgres.
test-distributed: postgres ## the loader with tables distributed by account. TEST_CITUS_URL=postgres://… for a Citus cluster
	TEST_DISTRIBUTED=stand-in cargo test --locked --features failpoints --test it -- mirror:: $(if $(TEST_CITUS_URL),restart::) \
	    --skip widening::a_table_is_read_while --skip widening::what_a_crash_left # columns are not widened beside there

test-browser: postgres ## the status page in a real Chromium: both themes, wide and narrow, keyboard, without scripts, actions; target/browser has pictures
	AXE=$$(.ci/browser) && AXE=$$AXE cargo test --locked --features failpoints --test it -- --ignored --test-threads=1 browser::

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

bench-page: postgres ## the page of 50 exports of 25 programs over 3 years: answer times, bytes, and what 50 viewers cost
	cargo bench --locked --bench page -- $(ARGS)

bench-query: postgres ## the question of each view for analysts over many rows, median of three. ARGS="ACTIONS CLICKS"
	cargo bench --locked --bench query -- $(ARGS)

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

# The binary that packages and images are made of.
BINARY ?= target/release/impact-mirror
PREFIX ?= /usr/local
UNIT_DIR ?= /etc/systemd/system
SUITE ?= bookworm
IMAGE ?= impact-mirror:latest
# Those of a registry, unless made here: BASES=local (deploy/docker/bases; needs root and a Debian mirror).
BASES ?= registry
ifeq ($(BASES),local)
base_args = --build-arg RUNTIME_BASE=$$(deploy/docker/bases runtime) $(1)
endif

release: ## the binary as it is shipped; prints its version, size and start time
	cargo build --release --locked --bin impact-mirror
	.ci/release-facts $(BINARY)

install: release install-files ## release, then binary, unit, man pages and completions. PREFIX=/usr/local DESTDIR=

install-files:
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/impact-mirror
	rm -rf target/papers && $(BINARY) generate target/papers
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 && install -m 644 target/papers/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -D -m 644 target/papers/impact-mirror.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/impact-mirror
	install -D -m 644 target/papers/_impact-mirror $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_impact-mirror
	install -D -m 644 target/papers/impact-mirror.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/impact-mirror.fish
	install -D -m 644 config/impact-mirror.example.toml $(DESTDIR)$(PREFIX)/share/doc/impact-mirror/impact-mirror.example.toml
	install -d $(DESTDIR)$(UNIT_DIR)
	sed 's#/usr/local/bin/#$(PREFIX)/bin/#' deploy/systemd/impact-mirror.service > $(DESTDIR)$(UNIT_DIR)/impact-mirror.service
	chmod 644 $(DESTDIR)$(UNIT_DIR)/impact-mirror.service

deb: release ## the Debian package, in target/debian
	deploy/debian/package $(BINARY)

image: ## the container image, compiled in a container. IMAGE=impact-mirror:latest BASES=registry|local RUST_FROM=TOOLCHAIN
	docker build -f deploy/docker/Dockerfile -t $(IMAGE) --build-arg COMMIT=$$(git rev-parse --short=12 HEAD) \
	    $(call base_args,--build-arg BUILD_BASE=$$(deploy/docker/bases build)) .

image-prebuilt: ## the container image of a binary that is there. BINARY=target/release/impact-mirror BASES=registry|local
	deploy/docker/prebuilt $(BINARY) $(IMAGE) $(call base_args)

test-deploy: ## unit, package, image, manifests and compose file, with the tools that are here; says what it skipped. BINARY=…
	tests/deploy/run $(BINARY)

test-containers: ## the integration tests on a Postgres in a container. TEST_POSTGRES_IMAGE=postgres:18-alpine ARGS=mirror::
	TEST_POSTGRES=container cargo test --locked --features failpoints --test it -- $(ARGS)

test-dbt: postgres ## `export dbt` and deploy/dbt with dbt from PyPI, in target/dbt, on made-up data: build and source freshness
	cargo build --locked
	tests/dbt/run

postgres: ## the Postgres programs, installed where they are missing
	@.ci/postgres >/dev/null

dev-db: ## a throw-away database with the migrations applied; prints its URL
	@.ci/dev-db start
