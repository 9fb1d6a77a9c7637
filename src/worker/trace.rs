//! The span of a step: what its log lines carry, and its place in the trace of its job.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use sha2::{Digest as _, Sha256};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::job::{Job, JobState};

/// A span with what the lines in it carry.
macro_rules! of_job {
    ($name:literal, $job:ident) => {
        tracing::info_span!(
            $name,
            job.id = $job.id.0,
            job.export = %$job.export,
            job.account = %$job.account,
            job.program = %$job.program,
            job.window = %$job.window,
            job.state = %$job.state,
            job.attempts = $job.attempts,
        )
    };
}

/// The span of a step. All steps of a job are of one trace, whichever process takes them.
pub(super) fn span(job: &Job) -> Span {
    let span = match job.state {
        JobState::Planned | JobState::Submitting => of_job!("submit", job),
        JobState::Waiting => of_job!("poll", job),
        JobState::Ready | JobState::Loading | JobState::Loaded | JobState::Failed | JobState::Cancelled => {
            of_job!("load", job)
        }
    };
    let parent = opentelemetry::Context::new().with_remote_span_context(life(job));
    let _ = span.set_parent(parent); // where no traces are sent, there is none to have
    span
}

/// The part of a load that fetches the file.
pub(super) fn fetch(job: &Job) -> Span {
    of_job!("fetch", job)
}

/// The part of a load that brings the file into its table.
pub(super) fn merge(job: &Job) -> Span {
    of_job!("merge", job)
}

/// The whole life of a job as a span: every process computes the same, so that it need not be written down.
fn life(job: &Job) -> SpanContext {
    let what = format!("{} {} {} {} {}", job.id, job.export, job.account, job.program, job.window);
    let hash: [u8; 32] = Sha256::digest(what.as_bytes()).into();
    let (trace, rest) = hash.split_first_chunk().expect("32 bytes are more than 16");
    let (span, _) = rest.split_first_chunk().expect("16 bytes are more than 8");
    let (trace, span) = (TraceId::from_bytes(*trace), SpanId::from_bytes(*span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE)
}
