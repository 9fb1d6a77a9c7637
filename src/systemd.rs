//! What is said to the service manager that started this process: ready, stopping, how it goes, and that it is alive. It is
//! systemd's protocol of datagrams; where nobody listens, nothing is said.

use std::env;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How often it is told how things go, where it asks for no sign of life.
const NEWS: Duration = Duration::from_secs(20);

/// The service manager, if there is one that listens.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment of this process names.
    pub fn of_this_process() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").and_then(|name| name.into_string().ok()) else {
            return Self::default();
        };
        let socket = connect(&name).inspect_err(|error| {
            tracing::warn!(%error, "the service manager cannot be told anything: NOTIFY_SOCKET is {name}");
        });
        let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| is_ours).map(Duration::from_micros);
        Self { socket: socket.ok(), watchdog }
    }

    /// Whether one listens.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// How often it is to be told how things go: three times before its patience ends.
    pub fn news(&self) -> Duration {
        self.watchdog.map_or(NEWS, |patience| (patience / 3).min(NEWS))
    }

    /// The start goes on, and needs some more time.
    pub fn starting(&self, status: &str) {
        self.tell(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", (3 * NEWS).as_micros(), line(status)));
    }

    /// The work has begun.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=running");
    }

    /// The configuration is read anew, and applied where it is good.
    pub fn reloading(&self) {
        // What it says is of no use to a manager that does not know when this began, by the clock that never jumps.
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return };
        let since_boot = Duration::from(now).as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={since_boot}\nSTATUS=reloading the configuration"));
    }

    /// The work goes on, with the new configuration or the one from before.
    pub fn reloaded(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// The work goes on.
    pub fn alive(&self, status: &str) {
        self.tell(&format!("WATCHDOG=1\nSTATUS={}", line(status)));
    }

    /// The work does not go on. Without a sign of life the manager will start another process.
    pub fn stuck(&self, status: &str) {
        self.tell(&format!("STATUS={}", line(status)));
    }

    /// The work comes to its end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: waiting for what is under way");
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A status is one line.
fn line(status: &str) -> String {
    status.trim_end().replace('\n', "; ")
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address(name)?)?;
    // A manager that is busy must not hold up the engine.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A path, or with `@` in front a name that only Linux has.
fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        #[cfg(not(target_os = "linux"))]
        Some(_) => Err(io::ErrorKind::Unsupported.into()),
        None => SocketAddr::from_pathname(name),
    }
}
