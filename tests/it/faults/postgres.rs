//! Servers of Postgres that end, are replaced, take nobody in or take no writes, in the middle of work. Each test has a server of its
//! own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use impact_mirror::embedded::Embedded;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::{FAULT, LEASE, Stage, tell};
use crate::support::daemon::eventually;
use crate::support::proxy::Proxy;
use crate::support::small_disk::SmallDisk;
use crate::support::state_dir::StateDir;

/// What Postgres says where all connections are taken.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// A new cluster and its first rows take half of it.
const DISK: u64 = 192 << 20;

/// A server, and a way to look into it that leads to its successor too.
struct Server {
    embedded: Embedded,
    state: StateDir,
    looking: Proxy,
}

impl Server {
    async fn start() -> Self {
        Self::start_in(StateDir::new()).await
    }

    async fn start_in(state: StateDir) -> Self {
        let embedded = Embedded::start(state.path()).await.unwrap();
        let looking = Proxy::to_postgres(embedded.url());
        Self { embedded, state, looking }
    }

    fn pool(&self) -> PgPool {
        let url = self.looking.postgres_url(self.embedded.url());
        PgPoolOptions::new().max_connections(3).connect_lazy(&url).unwrap()
    }

    async fn stage(&self) -> Stage {
        Stage::on(self.embedded.url(), self.pool()).await
    }

    /// Ends the server by a signal, and returns when it is gone.
    async fn end(&self, signal: Signal) {
        let pid_file = self.state.path().join("postgres/data/postmaster.pid");
        let text = std::fs::read_to_string(pid_file).unwrap();
        let pid = Pid::from_raw(text.lines().next().unwrap().parse().unwrap());
        kill(pid, signal).unwrap();
        eventually("the server is gone", async || kill(pid, None) == Err(Errno::ESRCH)).await;
    }

    /// Whether the server gave up by itself.
    fn is_gone(&self) -> bool {
        !self.state.path().join("postgres/data/postmaster.pid").exists()
    }

    /// Starts it again where it is.
    async fn begin_again(&mut self) {
        self.embedded = Embedded::start(self.state.path()).await.unwrap();
    }

    /// Goes on with a copy of what a crash left, on a server elsewhere.
    async fn fail_over(&mut self, stage: &Stage) {
        let other = StateDir::new();
        copy(&self.state.path().join("postgres"), &other.path().join("postgres"));
        self.embedded = Embedded::start(other.path()).await.unwrap();
        self.state = other;
        self.looking.lead_to_postgres(self.embedded.url());
        stage.postgres.lead_to_postgres(self.embedded.url());
    }

    /// A statement of its own, outside of all transactions.
    async fn execute(&self, statements: &[&str]) {
        let mut conn = PgConnection::connect(self.embedded.url()).await.unwrap();
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut conn).await.unwrap();
        }
        conn.close().await.unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
    for stale in ["data/postmaster.pid", "port"] {
        let _ = std::fs::remove_file(to.join(stale));
    }
}

/// Work is under way, so far that a job is in this state.
async fn working(stage: &Stage, job_state: &str) {
    stage.ask().await;
    stage.scene.until_job(&format!("state = '{job_state}'")).await;
}

async fn recovers(stage: &Stage, what: &str, loads: usize) -> Duration {
    let began = Instant::now();
    stage.until_loaded(loads).await;
    let took = began.elapsed();
    stage.assert_recovered(what, loads).await;
    took
}

fn assert_soon(what: &str, took: &[Duration]) {
    tell(what, took);
    assert!(took.iter().all(|took| *took < 2 * LEASE), "a lease at most, and the work itself: {took:?}");
}

#[tokio::test]
async fn the_daemon_survives_restarts_and_crashes_of_postgres() {
    let mut server = Server::start().await;
    let stage = server.stage().await;
    let mut took = Vec::new();
    let ends = [
        (Signal::SIGINT, "waiting"),
        (Signal::SIGQUIT, "waiting"),
        (Signal::SIGINT, "loading"),
        (Signal::SIGQUIT, "loading"),
    ];
    for (loads, (signal, during)) in (6..).step_by(2).zip(ends) {
        working(&stage, during).await;
        server.end(signal).await;
        tokio::time::sleep(FAULT).await;
        server.begin_again().await;
        took.push(recovers(&stage, &format!("{signal} while {during}"), loads).await);
    }
    assert_soon("restarts and crashes of Postgres", &took);
}

#[tokio::test]
async fn the_daemon_follows_its_database_to_another_server() {
    let mut server = Server::start().await;
    let stage = server.stage().await;
    let mut took = Vec::new();
    for (loads, during) in [(6, "waiting"), (8, "loading")] {
        working(&stage, during).await;
        server.end(Signal::SIGQUIT).await;
        server.fail_over(&stage).await;
        took.push(recovers(&stage, &format!("failover while {during}"), loads).await);
    }
    assert_soon("failovers of Postgres", &took);
}

#[tokio::test]
async fn the_daemon_waits_while_postgres_takes_no_more_connections() {
    let mut server = Server::start().await;
    server.execute(&["alter system set max_connections = 24"]).await;
    server.end(Signal::SIGINT).await;
    server.begin_again().await;
    let stage = server.stage().await;
    working(&stage, "waiting").await;

    // Held from before, for there will be none to be had.
    let mut looking = stage.scene.pool().acquire().await.unwrap();
    let mut taken = Vec::new();
    let ours = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'impact-mirror'";
    let began = Instant::now();
    let (mut is_full, mut left) = (false, 1_i64);
    while !(is_full && left == 0 && began.elapsed() > FAULT) {
        assert!(began.elapsed() < 5 * FAULT, "the daemon keeps {left} connections");
        left = sqlx::query_scalar(ours).fetch_one(&mut *looking).await.unwrap();
        is_full = match PgConnection::connect(server.embedded.url()).await {
            Ok(conn) => {
                taken.push(conn);
                false
            }
            Err(error) => {
                error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref()
                    == Some(TOO_MANY_CONNECTIONS)
            }
        };
    }
    drop((taken, looking));
    assert_soon("no connections left in Postgres", &[recovers(&stage, "too many connections", 6).await]);
}

#[tokio::test]
async fn the_daemon_waits_while_postgres_takes_no_writes() {
    let server = Server::start().await;
    let stage = server.stage().await;
    let mut took = Vec::new();
    for (loads, during) in [(6, "waiting"), (8, "loading")] {
        working(&stage, during).await;
        let read_only = "alter system set default_transaction_read_only = on";
        server.execute(&[read_only, "select pg_reload_conf()"]).await;
        tokio::time::sleep(FAULT).await;
        let writable = "alter system reset default_transaction_read_only";
        server.execute(&["set default_transaction_read_only = off", writable, "select pg_reload_conf()"]).await;
        took.push(recovers(&stage, &format!("read-only while {during}"), loads).await);
    }
    assert_soon("a read-only Postgres", &took);
}

#[tokio::test]
async fn the_daemon_waits_while_the_disk_of_postgres_is_full() {
    let Some(disk) = SmallDisk::mount(DISK) else {
        eprintln!("only root may mount the small disk of this test");
        return;
    };
    let mut server = Server::start_in(StateDir::below(disk.path())).await;
    let stage = server.stage().await;
    let mut took = Vec::new();
    for (loads, during) in [(6, "waiting"), (8, "loading")] {
        let told = stage.daemon.log().matches("disk is full").count();
        working(&stage, during).await;
        disk.fill();
        eventually("the daemon says so", async || stage.daemon.log().matches("disk is full").count() > told).await;
        tokio::time::sleep(FAULT).await;
        disk.make_room();
        if server.is_gone() {
            server.begin_again().await; // as whoever looks after it would
        }
        // Jobs look for room every five minutes; nobody has so long here.
        let in_haste = async {
            loop {
                let due =
                    "update impact_mirror.job set run_at = now() where finished_at is null and error_kind = 'no_room';
                           notify impact_mirror_wake";
                let _ = sqlx::raw_sql(due).execute(stage.scene.pool()).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let what = format!("a full disk while {during}");
        tokio::select! {
            after = recovers(&stage, &what, loads) => took.push(after),
            () = in_haste => unreachable!("it goes on for ever"),
        }
    }
    tell("a Postgres whose disk is full", &took);
}
