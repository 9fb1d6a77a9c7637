//! Makes, starts and stops the cluster with the Postgres programs of this machine.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use super::home::Home;
use super::postmaster::Postmaster;
use super::programs::Programs;
use super::{Error, USER};

/// How long a start may take; recovery after a crash is part of it.
const START: Duration = Duration::from_mins(5);
/// How often a start is tried on another port.
const PORTS: u32 = 3;
/// When the server's log is put aside.
const LOG_BYTES: u64 = 16 * 1024 * 1024;

/// What a mirror on a laptop needs. It is only written when the cluster is made: later changes there are the user's.
const SETTINGS: &str = "
# Written by impact-mirror when it made this cluster; change it as you like.
shared_buffers = 256MB
max_wal_size = 2GB
max_connections = 200
random_page_cost = 1.1
log_checkpoints = off
log_timezone = 'UTC'
timezone = 'UTC'

# What belongs to the machine (port, socket, how page images in the WAL are compressed), written anew at every start. What is set
# below it counts.
include = '../server.conf'
";

/// A cluster whose server runs.
#[derive(Debug)]
pub(super) struct Cluster {
    home: Home,
    programs: Programs,
    server: Postmaster,
}

impl Cluster {
    /// Makes the cluster where there is none, starts its server where none runs, and waits until it is ready.
    pub(super) async fn bring_up(home: Home) -> Result<Self, Error> {
        let data = home.data();
        let programs = Programs::find(&data).await?;
        if !data.join("PG_VERSION").exists() {
            init(&home, &programs).await?;
        }
        let deadline = Instant::now() + START;
        let server = loop {
            match Postmaster::read(&data) {
                Some(server) if !server.is_alive() => {
                    // Postgres itself tells a dead number from a living one, but not from a stranger's.
                    if is_process(server.pid) {
                        let _ = fs::remove_file(Postmaster::file(&data));
                    }
                    start(&home, &programs).await?;
                }
                Some(server) if server.is_ready() => break server,
                // One that is going down or coming up: left by a process that was killed, or stopped a moment ago.
                Some(server) if Instant::now() > deadline => {
                    return Err(Error::NotReady { pid: server.pid, status: server.status, log: home.log() });
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                None => start(&home, &programs).await?,
            }
        };
        home.remember_port(server.port)?;
        Ok(Self { home, programs, server })
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    pub(super) fn version(&self) -> &str {
        &self.programs.version
    }

    pub(super) fn port(&self) -> u16 {
        self.server.port
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.server.socket_dir
    }

    /// Stops the server: connections are cut and all is written down; where that takes too long, recovery will do it.
    pub(super) async fn shut_down(&self) -> Result<(), Error> {
        let stop = |mode: &str, seconds: &str| {
            let mut command = self.home.owner().command(&self.programs.path("pg_ctl"));
            command.args(["stop", "-s", "-w", "-m", mode, "-t", seconds, "-D"]).arg(self.home.data());
            command
        };
        match run("pg_ctl stop", stop("fast", "30")).await {
            Ok(()) => Ok(()),
            Err(_) if !Postmaster::file(&self.home.data()).exists() => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "embedded Postgres does not stop; stopping it at once");
                run("pg_ctl stop", stop("immediate", "10")).await
            }
        }
    }

    /// Asks for the same, and does not wait.
    pub(super) fn ask_to_stop(&self) {
        if self.server.is_alive() {
            // SIGINT is Postgres's fast shutdown. Where it cannot be sent, the next start adopts the server.
            let _ = kill(Pid::from_raw(self.server.pid), Signal::SIGINT);
        }
    }
}

async fn init(home: &Home, programs: &Programs) -> Result<(), Error> {
    tracing::info!("making a Postgres {} cluster in {}", programs.version, home.data().display());
    // Made under another name, so that a cluster that is there is a whole one.
    let fresh = home.root().join("data.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(Error::file("remove", &fresh))?;
    }
    home.make_private(&fresh)?;
    let mut command = home.owner().command(&programs.path("initdb"));
    command.arg("-D").arg(&fresh).arg("-U").arg(USER).arg("--pwfile").arg(home.password_file()?);
    command.args(["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]);
    command.arg("--data-checksums");
    if programs.major >= 17 {
        // Sorts by code point like C, but knows upper and lower case beyond ASCII, on every system alike.
        command.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    }
    run("initdb", command).await?;
    let conf = fresh.join("postgresql.conf");
    OpenOptions::new()
        .append(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&conf)
        .and_then(|mut file| file.write_all(SETTINGS.as_bytes()))
        .map_err(Error::file("write", &conf))?;
    fs::rename(&fresh, home.data()).map_err(Error::file("rename", &fresh))
}

/// Whether these programs compress WAL by lz4, which takes a tenth of the time of their own way: it is known from 15 on, and
/// not compiled into all of them.
async fn compress_by_lz4(home: &Home, programs: &Programs) -> bool {
    let mut command = home.owner().command(&programs.path("postgres"));
    let asked = ["-C", "wal_compression", "-c", "wal_compression=lz4", "-c", "config_file=/dev/null", "-D"];
    command.args(asked).arg(home.data());
    run("postgres", command).await.is_ok()
}

async fn start(home: &Home, programs: &Programs) -> Result<(), Error> {
    let compression = if compress_by_lz4(home, programs).await { "lz4" } else { "on" };
    let mut tries = 0;
    loop {
        let port = free_port(home.remembered_port())?;
        home.write_server_conf(&server_conf(port, home.socket_dir(), compression))?;
        match start_on_port(home, programs).await {
            // Somebody else took the port in between.
            Err(_) if tries < PORTS && free_port(Some(port))? != port => tries += 1,
            outcome => return outcome,
        }
    }
}

async fn start_on_port(home: &Home, programs: &Programs) -> Result<(), Error> {
    let log = home.log();
    let mut told = fs::metadata(&log).map_or(0, |metadata| metadata.len());
    if told > LOG_BYTES {
        fs::rename(&log, log.with_extension("log.1")).map_err(Error::file("rename", &log))?;
        told = 0;
    }
    let mut command = home.owner().command(&programs.path("pg_ctl"));
    command.args(["start", "-s", "-w", "-t", &START.as_secs().to_string(), "-D"]).arg(home.data()).arg("-l").arg(&log);
    run("postgres", command).await.map_err(|error| match error {
        Error::Failed { program, status, said } => {
            Error::Failed { program, status, said: tail(&log, told).unwrap_or(said) }
        }
        other => other,
    })
}

fn server_conf(port: u16, socket_dir: &Path, compression: &str) -> String {
    let socket_dir = socket_dir.to_string_lossy().replace('\\', r"\\").replace('\'', "''").replace('"', "\"\"");
    format!(
        "# Written by impact-mirror at every start.\n\
         port = {port}\n\
         listen_addresses = '127.0.0.1'\n\
         unix_socket_directories = '\"{socket_dir}\"'\n\
         unix_socket_permissions = 0700\n\
         wal_compression = {compression}\n"
    )
}

/// `wanted` where it is free, else any free port of loopback.
fn free_port(wanted: Option<u16>) -> Result<u16, Error> {
    let bound = wanted.and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let bound = bound.map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok);
    bound
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::file("find a free port on", "127.0.0.1"))
}

fn is_process(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

async fn run(program: &'static str, mut command: Command) -> Result<(), Error> {
    let output = command
        .output()
        .await
        .map_err(|source| Error::Run { program: command.as_std().get_program().into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = one_line(&String::from_utf8_lossy(&said));
    Err(Error::Failed { program, status: output.status, said })
}

/// The last lines of the log since `from`, if there are any.
fn tail(log: &Path, from: u64) -> Option<String> {
    let mut file = fs::File::open(log).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut said = String::new();
    file.take(64 * 1024).read_to_string(&mut said).ok()?;
    let lines: Vec<&str> = said.lines().collect();
    let said = one_line(&lines[lines.len().saturating_sub(8)..].join("\n"));
    (!said.is_empty()).then_some(said)
}

fn one_line(said: &str) -> String {
    said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_stays_one_setting() {
        let conf = server_conf(5433, Path::new(r#"/it's "here""#), "lz4");
        assert!(conf.contains(r#"unix_socket_directories = '"/it''s ""here"""'"#), "{conf}");
    }

    #[test]
    fn a_port_that_is_taken_is_given_up() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(Some(port)).unwrap(), port);
        drop(taken);
        assert_eq!(free_port(Some(port)).unwrap(), port);
    }
}
