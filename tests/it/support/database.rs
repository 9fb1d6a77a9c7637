//! A fresh database for each test, on one server per test run.
//!
//! The server is the one of `TEST_DATABASE_URL` (a superuser's or database creator's URL); else a container, where a
//! container engine answers and has or gets the image `TEST_POSTGRES_IMAGE` (default `postgres:18-alpine`); else a cluster
//! of the Postgres programs of this machine. Which one is said once on stderr. Without any of them the tests fail.
//! `TEST_POSTGRES=embedded` or `TEST_POSTGRES=container` asks for one of the last two alone. A cluster, where `cluster` knows of one,
//! comes before all of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use impact_mirror::embedded::Embedded;
use impact_mirror::error_chain::Chain;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};
use tokio::sync::OnceCell;
use url::Url;

use super::{cluster, state_dir};

/// What the names of all test databases begin with.
const PREFIX: &str = "impact_mirror_test_";
/// How long the container engine may take to answer.
const ENGINE: Duration = Duration::from_secs(3);
/// How long a container may take to start, pulling its image included.
const CONTAINER: Duration = Duration::from_secs(45);

static SERVER: OnceCell<Result<Server, String>> = OnceCell::const_new();
static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// A database of one test, dropped with the value.
pub struct TestDatabase {
    url: String,
    name: String,
    pool: PgPool,
}

impl TestDatabase {
    /// Connections to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let name = self.name.clone();
        let server = SERVER.get().and_then(|server| server.as_ref().ok()).expect("a database has a server");
        // The test's own runtime may be on its way out.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                server.execute(&format!("drop database if exists {name} with (force)")).await?;
                cluster::forget(&server.admin_url, &name).await
            })
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("cannot drop {}: {}", self.name, Chain(&error)),
            Err(_) => eprintln!("cannot drop {}", self.name),
        }
    }
}

/// A fresh, empty database.
pub async fn database() -> TestDatabase {
    create(None).await
}

/// A fresh database with all migrations applied.
pub async fn migrated() -> TestDatabase {
    let template = TEMPLATE.get_or_init(make_template).await;
    create(Some(template)).await
}

async fn make_template() -> String {
    let server = server().await;
    let name = server.create_database(None).await;
    migrate(&server.url_of(&name)).await;
    name
}

async fn migrate(url: &str) {
    let mut conn = PgConnection::connect(url).await.expect("the new database takes a connection");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let migrator = Migrator::new(directory).await.expect("the migrations can be read");
    migrator.run_direct(None, &mut conn, false).await.expect("the migrations apply");
    conn.close().await.expect("a connection closes");
}

async fn create(template: Option<&str>) -> TestDatabase {
    let server = server().await;
    // A database that is copied from another has that one's nodes.
    let is_copied = cluster::coordinator().is_none();
    let name = server.create_database(template.filter(|_| is_copied)).await;
    let url = server.url_of(&name);
    if !is_copied && template.is_some() {
        migrate(&url).await;
    }
    let options = PgConnectOptions::from_str(&url).expect("the server has a URL");
    let patience = Duration::from_mins(2); // of a server in a container, on a machine that does much else
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(patience).connect_with(options).await;
    let pool = pool.expect("a new database is open");
    TestDatabase { url, name, pool }
}

async fn server() -> &'static Server {
    match SERVER.get_or_init(find_server).await {
        Ok(server) => server,
        Err(why) => panic!("the tests need a Postgres and found none:\n{why}"),
    }
}

/// The server of this test run.
struct Server {
    admin_url: String,
}

impl Server {
    fn url_of(&self, database: &str) -> String {
        let mut url = Url::parse(&self.admin_url).expect("checked when the server was found");
        url.set_path(database);
        url.into()
    }

    /// The port of a container hangs up on one or the other while many connect at once.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut tries = 1;
        loop {
            match PgConnection::connect(&self.admin_url).await {
                Err(sqlx::Error::Io(_)) if tries < 5 => tries += 1,
                ended => return ended,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn execute(&self, statement: &str) -> Result<(), sqlx::Error> {
        let mut conn = self.connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut conn).await?;
        conn.close().await
    }

    async fn create_database(&self, template: Option<&str>) -> String {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}_{}_{count}", seconds_now(), std::process::id());
        let template = template.unwrap_or("template0");
        self.execute(&format!("create database {name} template {template}"))
            .await
            .unwrap_or_else(|error| panic!("cannot create a database: {}", Chain(&error)));
        if template == "template0" {
            cluster::prepare(self.admin_url.clone(), name.clone())
                .await
                .unwrap_or_else(|error| panic!("cannot have tables distributed: {}", Chain(&error)));
        }
        name
    }

    /// Drops what test runs that were killed have left on a server that outlives them.
    async fn drop_leftovers(&self) -> Result<(), sqlx::Error> {
        let mut conn = self.connect().await?;
        let names: Vec<String> = sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
            .bind(PREFIX)
            .fetch_all(&mut conn)
            .await?;
        let yesterday = seconds_now() - 24 * 60 * 60;
        for name in names {
            let made_at = name[PREFIX.len()..].split('_').next().and_then(|seconds| seconds.parse::<u64>().ok());
            if made_at.is_some_and(|made_at| made_at < yesterday) {
                let statement = format!("drop database if exists {name} with (force)");
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut conn).await?;
            }
        }
        conn.close().await
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

async fn find_server() -> Result<Server, String> {
    let named = cluster::coordinator().map(|url| ("TEST_CITUS_URL", url));
    let named = named.or_else(|| Some(("TEST_DATABASE_URL", std::env::var("TEST_DATABASE_URL").ok()?)));
    if let Some((variable, admin_url)) = named {
        let url = Url::parse(&admin_url).map_err(|error| format!("  {variable} is no URL: {error}"))?;
        let server = Server { admin_url };
        server.drop_leftovers().await.map_err(|error| format!("  {variable}: {}", Chain(&error)))?;
        let host = url.host_str().unwrap_or("its socket");
        eprintln!("tests use the Postgres of {variable}, on {host}");
        return Ok(server);
    }
    let asked = std::env::var("TEST_POSTGRES").unwrap_or_default();
    let mut why_not = Vec::new();
    if asked != "embedded" {
        match in_a_container().await {
            Ok(server) => return Ok(server),
            Err(why) => why_not.push(format!("  no container: {why}")),
        }
    }
    if asked != "container" {
        match on_this_machine().await {
            Ok(server) => return Ok(server),
            Err(why) => why_not.push(format!("  no embedded Postgres: {why}")),
        }
    }
    why_not.push("  TEST_DATABASE_URL is not set; `make postgres` installs the Postgres programs".to_owned());
    Err(why_not.join("\n"))
}

async fn in_a_container() -> Result<Server, String> {
    let wanted = std::env::var("TEST_POSTGRES_IMAGE").unwrap_or_else(|_| "postgres:18-alpine".to_owned());
    if !engine_answers().await {
        return Err("no container engine answers".to_owned());
    }
    let (image, tag) = wanted.rsplit_once(':').unwrap_or((&wanted, "latest"));
    let name = format!("{PREFIX}{}_{}", seconds_now(), std::process::id());
    let starting = GenericImage::new(image, tag)
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::message_on_stdout("PostgreSQL init process complete"))
        .with_env_var("POSTGRES_PASSWORD", "mirror")
        .with_cmd(["postgres", "-c", "fsync=off", "-c", "max_connections=200"])
        .with_container_name(&name)
        .start();
    let container = tokio::time::timeout(CONTAINER, starting)
        .await
        .map_err(|_| format!("{wanted} did not start within {} seconds", CONTAINER.as_secs()))?
        .map_err(|error| Chain(&error).to_string())?;
    let host = container.get_host().await.map_err(|error| Chain(&error).to_string())?;
    let port = container.get_host_port_ipv4(5432).await.map_err(|error| Chain(&error).to_string())?;
    // The container has to outlive this test's runtime, and a static is never dropped.
    std::mem::forget(container);
    after_this_process("docker rm -f -v \"$1\" || podman rm -f -v \"$1\"", Path::new(&name));
    let server = Server { admin_url: format!("postgres://postgres:mirror@{host}:{port}/postgres") };
    for _ in 0..50 {
        if server.execute("select 1").await.is_ok() {
            eprintln!("tests use a Postgres in a container of {wanted}");
            return Ok(server);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(format!("the Postgres in a container of {wanted} takes no connections"))
}

async fn engine_answers() -> bool {
    let asking = async {
        let engine = testcontainers::core::client::docker_client_instance().await.ok()?;
        engine.ping().await.ok()
    };
    tokio::time::timeout(ENGINE, asking).await.is_ok_and(|answer| answer.is_some())
}

/// What stops a cluster whose process is gone, and removes it.
const REMOVE_CLUSTER: &str = r#"
    pid=$(head -n 1 "$1/postgres/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" && while kill -0 "$pid"; do sleep 0.1; done
    rm -rf "$1"
"#;

async fn on_this_machine() -> Result<Server, String> {
    remove_leftover_clusters();
    let state_dir = state_dir::fresh();
    after_this_process(REMOVE_CLUSTER, &state_dir);
    let embedded = Embedded::start(&state_dir).await.map_err(|error| Chain(&error).to_string())?;
    eprintln!("tests use an embedded Postgres {} in {}", embedded.version(), state_dir.display());
    let server = Server { admin_url: embedded.url().to_owned() };
    // Runs until the guard stops it: a static is never dropped.
    std::mem::forget(embedded);
    for hasty in ["fsync = off", "synchronous_commit = off", "full_page_writes = off"] {
        server.execute(&format!("alter system set {hasty}")).await.map_err(|error| Chain(&error).to_string())?;
    }
    server.execute("select pg_reload_conf()").await.map_err(|error| Chain(&error).to_string())?;
    Ok(server)
}

/// Runs a shell script with `$1` set once this process is gone, however it went: the pipe closes with it.
fn after_this_process(script: &str, argument: &Path) {
    spawn_script(&format!("cat; {script}"), argument, Stdio::piped());
}

fn spawn_script(script: &str, argument: &Path, stdin: Stdio) {
    use std::os::unix::process::CommandExt;
    let child = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(argument)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0) // Ctrl-C is for the tests, not for who cleans up after them
        .spawn()
        .expect("every Unix has a shell");
    std::mem::forget(child);
}

/// Removes the clusters of test runs whose guard was killed with them.
fn remove_leftover_clusters() {
    let is_abandoned = |directory: &PathBuf| {
        let Ok(lock) = std::fs::File::open(directory.join("postgres/users.lock")) else { return false };
        let age = lock.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed().unwrap_or_default());
        lock.try_lock().is_ok() && age.is_ok_and(|age| age > Duration::from_mins(10))
    };
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(state_dir::PREFIX));
    for directory in ours.map(|entry| entry.path()).filter(is_abandoned) {
        spawn_script(REMOVE_CLUSTER, &directory, Stdio::null());
    }
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let (first, second) = tokio::join!(database(), database());
    sqlx::raw_sql("create table mine ()").execute(first.pool()).await.unwrap();
    let in_second: Option<String> =
        sqlx::query_scalar("select to_regclass('mine')::text").fetch_one(second.pool()).await.unwrap();
    assert_eq!(in_second, None);
    assert_ne!(first.url(), second.url());
}

#[tokio::test]
async fn a_migrated_database_has_the_bookkeeping() {
    let database = migrated().await;
    let table: Option<String> =
        sqlx::query_scalar("select to_regclass('impact_mirror.job')::text").fetch_one(database.pool()).await.unwrap();
    assert_eq!(table.as_deref(), Some("impact_mirror.job"));
}
