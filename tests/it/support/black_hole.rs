//! Connections on which nothing arrives any more, as where the machine at the other end has died: nobody is told.

use std::process::Command;

/// Swallows what goes over some connections of loopback; gone with the value.
pub struct BlackHole {
    port: String,
    clients: Vec<String>,
}

impl BlackHole {
    /// Between a server's port and the ports of some clients. Only root can make one, and only where there is `iptables`; others
    /// get none.
    pub fn between(port: u16, clients: &[u16]) -> Option<Self> {
        let hole = Self { port: port.to_string(), clients: clients.iter().map(u16::to_string).collect() };
        hole.rules("-I").then_some(hole)
    }

    fn rules(&self, what: &str) -> bool {
        self.clients.iter().flat_map(|client| [[client, &self.port], [&self.port, client]]).all(|[from, to]| {
            let mut command = Command::new("iptables");
            command.args(["-w", what, "INPUT", "-i", "lo", "-p", "tcp", "--sport", from, "--dport", to, "-j", "DROP"]);
            command.output().is_ok_and(|output| output.status.success())
        })
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.rules("-D");
    }
}
