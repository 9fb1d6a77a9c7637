//! The client of impact.com's partnership API: orders exports, reads jobs, fetches results.
//!
//! It says what impact.com answered and leaves to others what to do about it: budgets, back-off and the life of our own
//! jobs. Section numbers refer to `impact-api.md`.

mod address;
mod catalogue;
mod client;
mod download;
mod error;
mod job;
mod limits;
mod message;
mod redirect;
mod resolver;
mod transport;
mod unpack;
mod wire;

pub use catalogue::{Company, FilterInfo, ProgramInfo, ReportAttribute, ReportInfo, ReportMetaData};
pub use client::{Client, JobsPage};
pub use download::{Body, Download, Downloaded};
pub use error::{Call, Error, Refusal};
pub use job::{RemoteJob, RemoteJobId, RemoteStatus, Submitted};
pub use limits::{Answer, Limits};
