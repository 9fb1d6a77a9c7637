//! How far a job certainly is. Who works on it is the lease, never the state, so a crash leaves nothing stuck.

use std::fmt;
use std::str::FromStr;

/// The states of a job (design §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum JobState {
    /// Worth asking for; nothing is out.
    Planned,
    /// A request may be out.
    Submitting,
    /// impact.com has the order and we know its id.
    Waiting,
    /// The result can be fetched.
    Ready,
    /// It is being fetched and loaded.
    Loading,
    /// Rows, coverage and this state were committed together.
    Loaded,
    /// Given up, with the reason kept.
    Failed,
    /// Called off: by a person, or because it is not configured any more or its window was too long. Or its result was compared
    /// with the table, which is what it was for.
    Cancelled,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Planned,
        Self::Submitting,
        Self::Waiting,
        Self::Ready,
        Self::Loading,
        Self::Loaded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The states of a job that is not at its end.
    pub const OPEN: &[Self] = &[Self::Planned, Self::Submitting, Self::Waiting, Self::Ready, Self::Loading];

    /// The states from which a job may come here: the whole state machine.
    pub const fn sources(self) -> &'static [Self] {
        match self {
            // Not ordered after all or to be replayed; remote job dead or too old; result expired.
            Self::Planned => &[Self::Submitting, Self::Waiting, Self::Loading],
            Self::Submitting => &[Self::Planned],
            Self::Waiting => &[Self::Submitting],
            Self::Ready => &[Self::Waiting, Self::Loading], // can be fetched; fetching or loading is to be repeated
            Self::Loading => &[Self::Ready],
            Self::Loaded => &[Self::Loading],
            Self::Failed | Self::Cancelled => Self::OPEN,
        }
    }

    /// The names of `sources`, as the SQL guard wants them.
    pub fn source_names(self) -> Vec<String> {
        self.sources().iter().map(|state| state.as_str().to_owned()).collect()
    }

    /// Whether a job here is at its end.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Loaded | Self::Failed | Self::Cancelled)
    }

    /// The word in tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Submitting => "submitting",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// A word that is no state.
#[derive(Debug, thiserror::Error)]
#[error("unknown state {0:?}; there are planned, submitting, waiting, ready, loading, loaded, failed and cancelled")]
pub struct UnknownState(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_state_is_nobodys_source() {
        for to in JobState::ALL {
            for from in to.sources() {
                assert!(!from.is_final(), "{from} → {to}");
            }
        }
    }

    #[test]
    fn every_open_state_leads_to_loaded() {
        let mut reaches = vec![JobState::Loaded];
        loop {
            let before = reaches.len();
            for to in reaches.clone() {
                for from in to.sources() {
                    if !reaches.contains(from) {
                        reaches.push(*from);
                    }
                }
            }
            if reaches.len() == before {
                break;
            }
        }
        assert!(JobState::OPEN.iter().all(|state| reaches.contains(state)));
    }

    #[test]
    fn names_read_back() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse::<JobState>().expect("a state"), state);
        }
    }
}
