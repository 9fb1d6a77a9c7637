//! How one part of the engine tells another that there is work, without asking Postgres again and again.

use tokio::sync::Notify;

/// One bell per part. A rung bell is remembered until somebody hears it.
#[derive(Debug, Default)]
pub struct Wakes {
    /// The planner: coverage, budget or wishes have changed.
    pub plan: Notify,
    /// The submitters: a job was planned, or an order's end is unknown.
    pub submit: Notify,
    /// The pollers: a remote job is to be followed.
    pub poll: Notify,
    /// The loaders: a result can be fetched.
    pub load: Notify,
    /// The sender of alerts: there is one.
    pub alerts: Notify,
    /// The sender of new rows' messages: there is one.
    pub downstream: Notify,
}

impl Wakes {
    /// Rings them all: something changed elsewhere.
    pub fn all(&self) {
        self.plan.notify_one();
        self.submit.notify_one();
        self.poll.notify_one();
        self.load.notify_one();
    }
}
