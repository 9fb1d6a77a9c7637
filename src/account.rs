//! The words for who we read from: accounts, their ids and personas.

use std::fmt;

/// The name of an account in the configuration, as in `[accounts.acme]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct AccountName(String);

impl AccountName {
    /// Wraps a name that the configuration has checked.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Account SID: the user of HTTP Basic and a segment of every path (impact-api §1.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountSid(String);

impl AccountSid {
    /// Wraps a SID that the configuration has checked.
    pub fn new(sid: impl Into<String>) -> Self {
        Self(sid.into())
    }

    /// The bare SID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which side of the network a credential speaks for (impact-api §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persona {
    /// An advertiser.
    Brand,
    /// A publisher, also called media partner.
    Partner,
    /// A manager of several brands.
    Agency,
}

impl Persona {
    /// The word used in the configuration and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brand => "brand",
            Self::Partner => "partner",
            Self::Agency => "agency",
        }
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
