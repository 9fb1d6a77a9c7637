//! What the process says and leaves behind. Logs: readable lines on a terminal, JSON for machines. No core dumps.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What others say at `info` that is no news to whoever runs this.
const QUIET: &str = "sqlx::postgres::notice=warn,tokio_cron_scheduler=warn";

/// Starts logging to stderr. `RUST_LOG` wins over `default_filter`, as in `info` or `warn,impact_mirror=debug`.
pub fn start(form: Form, default_filter: &str) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{default_filter},{QUIET}")));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    match form {
        Form::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        Form::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
    }
}

/// Has the system write no image of this process, which would hold its secrets, when it crashes; on Linux it also keeps its
/// memory and environment from other processes of the same user. Where the system refuses, all goes on as it would.
pub fn leave_no_core() {
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}
