//! Faults that can be ordered: what goes wrong, where, how often and after how many calls that go right.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of calls that a fault can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// ReportExport and ClickExport.
    Submit,
    /// One job.
    Poll,
    /// The list of jobs.
    List,
    /// Download, up to the redirect, or with the file where it is streamed.
    Download,
    /// The signed URL.
    Storage,
    /// Replay.
    Replay,
    /// Everything, also what is not named above.
    Any,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The connection is reset and nothing has happened.
    Reset,
    /// The work is done, then the connection is reset.
    ReplyLost,
    /// 500 with an error envelope.
    #[serde(rename = "http_500")]
    Http500,
    /// 502 with an HTML page.
    #[serde(rename = "html_502")]
    Html502,
    /// 200 with an HTML page.
    #[serde(rename = "html_200")]
    Html200,
    /// 200 with `Status: ERROR`.
    #[serde(rename = "error_object_200")]
    ErrorObject200,
    /// 200 with no body.
    #[serde(rename = "empty_200")]
    Empty200,
    /// 401.
    #[serde(rename = "http_401")]
    Http401,
    /// 403, as for a token that lacks a scope.
    #[serde(rename = "http_403")]
    Http403,
    /// 429 with the headers of a quota that is exhausted for one more second.
    #[serde(rename = "throttle_429")]
    Throttle429,
    /// So many seconds of silence: before the reply, or in the middle of a file.
    Stall(f64),
    /// The file breaks off in mid row, before its Content-Length is reached.
    Truncate,
    /// The file ends early at the end of a row, and no Content-Length tells.
    ShortFile,
    /// The Content-Length is too small, so the file ends in mid row without an error.
    WrongLength,
    /// Rows that are no rows are put among the others.
    GarbageRows,
    /// The last headers become hostile: quotes, blanks, very long, twice the same, SQL.
    HostileHeaders,
    /// The job ends FAILED.
    JobFails,
    /// The job ends ERROR first and works when impact.com tries again.
    JobErrorThenOk,
    /// The job ends CANCELLED.
    JobCancelled,
    /// The job stays RUNNING.
    JobNeverEnds,
    /// The result has expired.
    ExpireResult,
}

impl FaultKind {
    /// The names of all kinds, as they are written in JSON.
    pub const NAMES: &[&str] = &[
        "reset",
        "reply_lost",
        "http_500",
        "html_502",
        "html_200",
        "error_object_200",
        "empty_200",
        "http_401",
        "http_403",
        "throttle_429",
        "{\"stall\": SECONDS}",
        "truncate",
        "short_file",
        "wrong_length",
        "garbage_rows",
        "hostile_headers",
        "job_fails",
        "job_error_then_ok",
        "job_cancelled",
        "job_never_ends",
        "expire_result",
    ];

    /// Whether the fault is about the job that a call starts.
    pub fn is_of_job(self) -> bool {
        matches!(self, Self::JobFails | Self::JobErrorThenOk | Self::JobCancelled | Self::JobNeverEnds)
    }

    /// Whether the fault is about the bytes of a result file.
    pub fn is_of_file(self) -> bool {
        matches!(self, Self::Truncate | Self::ShortFile | Self::WrongLength | Self::GarbageRows | Self::HostileHeaders)
    }
}

/// An order for something to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The calls it hits.
    pub on: Point,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How many calls it hits.
    #[serde(default = "once")]
    pub times: u32,
    /// How many such calls it lets pass first.
    #[serde(default)]
    pub skip: u32,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// A fault that hits the next call.
    pub fn next(on: Point, kind: FaultKind) -> Self {
        Self { on, kind, times: 1, skip: 0 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on {:?}, {} times after {}", self.kind, self.on, self.times, self.skip)
    }
}

/// Where a call stands when it asks for its fault: some faults make sense in some places only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A call has come in.
    Arrival,
    /// A call starts a job.
    JobStart,
    /// A result file is about to be sent.
    File,
    /// Download has found a result.
    Result,
}

/// The orders that have not been carried out yet.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Takes an order.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// How many orders have not been carried out whole.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// The fault that hits this call, if one does; counts the call.
    pub fn take(&mut self, point: Option<Point>, stage: Stage) -> Option<FaultKind> {
        let hit = self.0.iter_mut().find(|fault| fault.times > 0 && hits(fault, point, stage))?;
        if hit.skip > 0 {
            hit.skip -= 1;
            return None;
        }
        hit.times -= 1;
        let kind = hit.kind;
        self.0.retain(|fault| fault.times > 0);
        Some(kind)
    }
}

fn hits(fault: &Fault, point: Option<Point>, stage: Stage) -> bool {
    let file_point = matches!(fault.on, Point::Download | Point::Storage);
    let right_place = fault.on == Point::Any || Some(fault.on) == point || (stage == Stage::File && file_point);
    let right_stage = match stage {
        Stage::Arrival => !fault.kind.is_of_job() && !fault.kind.is_of_file() && fault.kind != FaultKind::ExpireResult,
        Stage::JobStart => fault.kind.is_of_job() || (fault.kind == FaultKind::ExpireResult && fault.on != Point::Any),
        Stage::File => fault.kind.is_of_file(),
        Stage::Result => fault.kind == FaultKind::ExpireResult,
    };
    right_place && right_stage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_skips_then_hits_as_often_as_ordered() {
        let mut faults = Faults::default();
        faults.add(Fault { on: Point::Poll, kind: FaultKind::Http500, times: 2, skip: 1 });
        let mut poll = || faults.take(Some(Point::Poll), Stage::Arrival).is_some();
        assert_eq!([poll(), poll(), poll(), poll()], [false, true, true, false]);
    }

    #[test]
    fn a_fault_waits_for_its_point_and_its_stage() {
        let mut faults = Faults::default();
        faults.add(Fault::next(Point::Storage, FaultKind::Truncate));
        assert_eq!(faults.take(Some(Point::Storage), Stage::Arrival), None);
        assert_eq!(faults.take(Some(Point::Submit), Stage::JobStart), None);
        assert_eq!(faults.take(Some(Point::Storage), Stage::File), Some(FaultKind::Truncate));
    }

    #[test]
    fn faults_are_written_as_short_json() {
        let fault: Fault = serde_json::from_str(r#"{"on":"list","kind":"http_500"}"#).unwrap();
        assert_eq!(fault, Fault::next(Point::List, FaultKind::Http500));
        for name in FaultKind::NAMES.iter().filter(|name| !name.starts_with('{')) {
            let kind: FaultKind = serde_json::from_value((*name).into()).unwrap();
            assert_eq!(serde_json::to_value(kind).unwrap(), **name);
        }
        let stall: Fault = serde_json::from_str(r#"{"on":"any","kind":{"stall":0.5},"times":3}"#).unwrap();
        assert_eq!(stall.kind, FaultKind::Stall(0.5));
    }
}
