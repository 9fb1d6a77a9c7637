//! What a person does about an error whose words do not say it: one sentence for each kind of cause.

use std::error::Error;
use std::io;

use super::payer::Unanswered;
use crate::archive;
use crate::config;
use crate::impact;
use crate::retry::ErrorKind;
use crate::store;

/// The next step after an error that ended a command, by the causes in its chain; `None` where its own words have one.
pub fn of(error: &(dyn Error + 'static)) -> Option<String> {
    let mut causes = std::iter::successors(Some(error), |&cause| cause.source());
    causes.find_map(|cause| {
        match cause.downcast_ref::<Unanswered>() {
            Some(Unanswered::Failed(error)) => return Some(of_call(error, None)),
            Some(Unanswered::Uncharged(error)) => return store::mend::of(error),
            Some(Unanswered::Spent) | None => {}
        }
        if let Some(error) = cause.downcast_ref::<impact::Error>() {
            return Some(of_call(error, None));
        }
        if let Some(archive::Error::Store { .. } | archive::Error::Directory { .. }) = cause.downcast_ref() {
            return Some(
                "look at archive.url, its credentials and the way to it; `impact-mirror check` tries it".to_owned(),
            );
        }
        if let Some(config::Error::Syntax { .. } | config::Error::Unreadable { .. }) = cause.downcast_ref() {
            return Some("mend the file there; `impact-mirror check` tries it".to_owned());
        }
        if let Some(error) = cause.downcast_ref::<store::Error>() {
            return store::mend::of(error);
        }
        if let Some(error) = cause.downcast_ref::<sqlx::Error>() {
            let without =
                "look whether the server that database.url names is up, and try again; `impact-mirror check` tries it";
            return Some(store::mend::of_statement(error).unwrap_or(without).to_owned());
        }
        of_system(cause.downcast_ref::<io::Error>()?)
    })
}

/// After a call to impact.com that failed, for `account` where that is known.
pub fn of_call(error: &impact::Error, account: Option<&str>) -> String {
    let key = |name: &str| {
        account.map_or_else(|| format!("the account's {name}"), |account| format!("accounts.{account}.{name}"))
    };
    match error {
        impact::Error::NoConnection { .. } | impact::Error::Setup { .. } => {
            format!("check the network, HTTPS_PROXY and {}, and try again", key("base_url"))
        }
        _ => match error.kind() {
            ErrorKind::Credentials => format!("check {} and auth_token in impact.com's settings", key("account_sid")),
            ErrorKind::Forbidden => {
                "give the token the scopes Reports, Clicks, Jobs and account information in impact.com's settings"
                    .to_owned()
            }
            ErrorKind::Throttled => "try again in an hour".to_owned(),
            ErrorKind::Transient => "try again later; see status.impact.com".to_owned(),
            ErrorKind::Remote
            | ErrorKind::Expired
            | ErrorKind::Permanent
            | ErrorKind::BadFile
            | ErrorKind::Database
            | ErrorKind::NoRoom
            | ErrorKind::Internal => format!("check {} and base_url", key("persona")),
        },
    }
}

/// After what the system refused.
fn of_system(error: &io::Error) -> Option<String> {
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give this user the right to it, or run the command as the daemon's user".to_owned()
        }
        io::ErrorKind::AddrInUse => "name another address (--listen or http.listen), or end who has it".to_owned(),
        io::ErrorKind::StorageFull => "free room on that disk, and try again".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_deep_down_tells_the_next_step() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = Err::<(), _>(refused).context("cannot write impact-mirror.toml").unwrap_err();
        assert!(of(error.as_ref()).unwrap().starts_with("give this user the right"));
        let error = anyhow::anyhow!("--from 2026-05-02 lies after --to 2026-05-01; swap them");
        assert_eq!(of(error.as_ref()), None);
    }

    #[test]
    fn a_call_that_was_refused_is_found_behind_what_carries_it() {
        let call = impact::Error::Unpaid { call: impact::Call::Company };
        let carried = anyhow::Error::from(Unanswered::from(call)).context("impact.com cannot be asked");
        assert_eq!(of(carried.as_ref()).as_deref(), Some("try again in an hour"));
    }

    #[test]
    fn a_server_that_is_away_is_told_from_one_that_refuses() {
        let away = store::Error::Connect(sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionRefused)));
        assert!(of(&away).unwrap().starts_with("start the server that database.url names"));
    }
}
