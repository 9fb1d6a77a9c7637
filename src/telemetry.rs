//! Logs: readable lines on a terminal, JSON for machines.

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
