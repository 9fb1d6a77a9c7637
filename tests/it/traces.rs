//! Traces, as a real collector of the test receives them from real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

use crate::support::daemon::{Mirrored, Scene, Wishes, eventually, still};

/// What was received: where, and as it came.
type Received = Arc<Mutex<Vec<(String, Bytes)>>>;

struct Collector {
    received: Received,
    endpoint: String,
}

impl Collector {
    async fn new() -> Self {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(receive).with_state(Arc::clone(&received));
        tokio::spawn(async { axum::serve(listener, app).await });
        Self { received, endpoint }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let received = self.received.lock().unwrap();
        received.iter().map(|(_, body)| ExportTraceServiceRequest::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|one| one.scope_spans).flat_map(|one| one.spans).collect()
    }
}

async fn receive(State(received): State<Received>, uri: Uri, body: Bytes) -> StatusCode {
    received.lock().unwrap().push((uri.path().to_owned(), body));
    StatusCode::OK
}

/// The attributes of a span, as texts.
fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs =
        span.attributes.iter().filter_map(|one| Some((one.key.clone(), text(one.value.as_ref()?.value.as_ref()?))));
    pairs.collect()
}

#[tokio::test]
async fn a_trace_holds_the_whole_life_of_a_job_across_processes_and_no_secret() {
    let collector = Collector::new().await;
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let mut scene = Scene::with(still(Duration::from_secs(2)), wishes).await;
    scene.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint.clone()));
    scene.env.push(("RUST_LOG", "warn".to_owned())); // what the log leaves out, traces hold all the same
    let mut first = scene.run();
    scene.until_job("state = 'waiting'").await;
    first.signal(Signal::SIGTERM);
    first.ended().await;
    let of_first = collector.spans().len();
    let mut second = scene.run();
    scene.until_mirrored().await;
    second.signal(Signal::SIGTERM);
    second.ended().await;
    eventually("the last spans are here", async || collector.spans().iter().any(|span| span.name == "load")).await;

    let spans = collector.spans();
    assert!(of_first > 0 && spans.len() > of_first, "both processes send spans");
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["submit", "poll", "load", "fetch", "merge"]));
    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| span.trace_id.as_slice()).collect();
    assert_eq!(traces.len(), 1, "one job, one trace");
    let of = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (submit, load) = (of("submit"), of("load"));
    assert_eq!(submit.parent_span_id, load.parent_span_id, "both are steps of the same life");
    assert_eq!(of("fetch").parent_span_id, load.span_id);
    assert_eq!(of("merge").parent_span_id, load.span_id);
    for step in [submit, of("poll"), load] {
        let attributes = attributes(step);
        let told = |name: &str| attributes.get(name).map(String::as_str);
        assert_eq!(
            (told("job.id"), told("job.export"), told("job.account")),
            (Some("1"), Some("actions"), Some("acme"))
        );
    }
    let resource = collector.requests()[0].resource_spans[0].resource.clone().unwrap();
    let names_the_service = |one: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        one.key == "service.name"
            && matches!(one.value.as_ref().and_then(|value| value.value.as_ref()), Some(Value::StringValue(name)) if name == "impact-mirror")
    };
    assert!(resource.attributes.iter().any(names_the_service), "{resource:?}");
    for (path, body) in collector.received.lock().unwrap().iter() {
        assert_eq!(path, "/v1/traces");
        let text = String::from_utf8_lossy(body);
        for secret in ["sandbox-brand-token", "signature=", "Basic "] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_gone_holds_up_nothing() {
    let wishes = Wishes { exports: &[Mirrored::Actions], ..Wishes::default() };
    let mut scene = Scene::with(still(Duration::from_millis(40)), wishes).await;
    scene.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9".to_owned()));
    let mut daemon = scene.run();
    scene.until_mirrored().await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.exit_code().await, Some(0), "{}", daemon.log());
}
