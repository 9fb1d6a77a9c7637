//! What the process says and leaves behind. Logs: readable lines on a terminal, JSON for machines. Traces by OTLP, where the
//! environment names an endpoint. No core dumps.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

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
/// How long the last spans may take to be sent.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Starts logging to stderr. `RUST_LOG` wins over `default_filter`, as in `info` or `warn,impact_mirror=debug`.
pub fn start(form: Form, default_filter: &str) {
    tracing_subscriber::registry().with(lines(form, default_filter)).init();
}

/// Starts logging, and traces where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says to whom. They are sent
/// until what is given back is dropped.
pub fn start_traced(form: Form, default_filter: &str) -> Traces {
    let provider = wants_traces(|name| std::env::var(name).ok()).then(provider);
    let (provider, failed) = match provider.transpose() {
        Ok(provider) => (provider, None),
        Err(error) => (None, Some(error)),
    };
    let spans = provider.as_ref().map(|provider| spans(provider.tracer("impact-mirror")));
    tracing_subscriber::registry().with(lines(form, default_filter)).with(spans).init();
    if let Some(error) = failed {
        tracing::warn!(%error, "no traces are sent; see the variables that begin with OTEL_");
    }
    Traces(provider)
}

/// Traces that are being sent, if they are.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS)
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// Whether the environment asks for traces, by the standard's variables.
fn wants_traces(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name: &str, value: &str| variable(name).is_some_and(|text| text.trim().eq_ignore_ascii_case(value));
    let is_set = |name: &str| variable(name).is_some_and(|text| !text.trim().is_empty());
    let has_endpoint = is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    has_endpoint && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

fn provider() -> Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("impact-mirror");
    }
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

/// Our own spans as a layer; those of others hold what is not ours to show.
fn spans<S: Subscriber + for<'span> LookupSpan<'span>>(tracer: SdkTracer) -> impl Layer<S> {
    let ours = Targets::new().with_target("impact_mirror", LevelFilter::INFO);
    tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false).with_filter(ours)
}

fn lines(form: Form, default_filter: &str) -> Box<dyn Layer<Registry> + Send + Sync> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{default_filter},{QUIET}")));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    match form {
        Form::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        Form::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).with_filter(filter).boxed()
        }
    }
}

/// Has the system write no image of this process, which would hold its secrets, when it crashes; on Linux it also keeps its
/// memory and environment from other processes of the same user. Where the system refuses, all goes on as it would.
pub fn leave_no_core() {
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_sent_only_where_the_environment_asks_for_them() {
        let wants = |set: &[(&str, &str)]| {
            wants_traces(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!wants(&[]) && !wants(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
        assert!(wants(&[endpoint]) && wants(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector/v1/traces")]));
        assert!(!wants(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!wants(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
    }
}
