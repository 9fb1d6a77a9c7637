//! The open questions about the real API, each a switch with the answers it might give.

use std::collections::BTreeMap;
use std::fmt;

/// One open question.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// Its name on the command line.
    pub name: &'static str,
    /// The possible answers, the default first.
    pub values: &'static [&'static str],
    /// What it is about.
    pub doc: &'static str,
}

const fn behaviour(name: &'static str, values: &'static [&'static str], doc: &'static str) -> Behaviour {
    Behaviour { name, values, doc }
}

static ALL: &[Behaviour] = &[
    behaviour("replay_id", &["persona", "same", "new", "invert"], "the job id after a Replay: new on Agency only"),
    behaviour("replay_costs", &["yes", "no"], "whether a Replay counts against the daily quota of its kind"),
    behaviour("duplicate_costs", &["yes", "no"], "whether a de-duplicated submission counts against the daily quota"),
    behaviour("duplicate_status", &["current", "queued"], "the Status in the reply to a duplicate"),
    behaviour("duplicate_key", &["normalised", "raw"], "what makes two submissions equal: meaning or exact query"),
    behaviour("duplicate_memory", &["unlimited", "90d", "day", "none"], "how long earlier submissions are remembered"),
    behaviour("duplicate_of_failed", &["same_job", "new_job"], "what a duplicate of a failed job gets"),
    behaviour("error_status", &["retried", "terminal"], "ERROR: run again every 15 minutes up to 5 times, or the end"),
    behaviour("retention", &["90d", "unlimited", "short"], "how long a result can be fetched; short is an hour"),
    behaviour("expired_download", &["404", "410", "403"], "the answer to Download of an expired result"),
    behaviour("signed_url_life", &["5m", "1h", "seconds"], "how long a signed URL works; seconds is 2"),
    behaviour("signed_url_auth", &["refused", "ignored"], "an Authorization header on the signed URL"),
    behaviour("early_download", &["202", "200"], "the status of Download before completion"),
    behaviour("inline_download", &["no", "yes"], "whether Download without Mode answers with the file itself"),
    behaviour("quota_day", &["rolling", "utc_midnight", "account_midnight"], "when daily quotas start afresh"),
    behaviour("quota_scope", &["account", "token"], "who shares a quota"),
    behaviour("reset_header", &["delta", "epoch"], "X-RateLimit-Reset: seconds to go or a Unix time"),
    behaviour("retry_after", &["persona", "always", "never"], "Retry-After on 429: partners only"),
    behaviour("quota_headers", &["hourly", "daily", "none"], "whose numbers the replies to exports carry"),
    behaviour(
        "header_lies",
        &["none", "remaining_high", "remaining_zero", "negative", "text", "reset_past", "reset_2099", "contradiction"],
        "how the headers of a quota are wrong",
    ),
    behaviour("rejected_costs", &["yes", "no"], "whether calls answered with 4xx count"),
    behaviour("error_in_200", &["agency", "all"], "who gets 200 with Status ERROR for a bad export"),
    behaviour("failure_body", &["json", "xml", "html", "empty"], "the body of 429 and 5xx; xml is by Accept"),
    behaviour("agency_lists", &["bare", "wrapped"], "the shape of lists on Agency"),
    behaviour("job_list", &["paged", "unpaged", "pages_of_two"], "whether the job list has pages; two jobs make many"),
    behaviour("job_values", &["strings", "native"], "numbers and booleans of a job"),
    behaviour("date_header", &["yes", "empty"], "whether answers say in Date what impact.com's clock shows"),
    behaviour("unset_dates", &["persona", "mix"], "unset dates of a job: null on Brand, empty text elsewhere"),
    behaviour("filter_zone", &["account", "utc"], "the zone of date filters"),
    behaviour("end_date", &["inclusive", "exclusive"], "whether END_DATE belongs to the window"),
    behaviour("filter_time", &["honoured", "truncated"], "whether a time of day in a date filter counts"),
    behaviour("max_window", &["none", "366d", "45d", "7d"], "the longest window of a report export"),
    behaviour("max_rows", &["none", "100000", "100"], "rows beyond are silently left out"),
    behaviour("empty_result", &["header", "zero_bytes"], "a result without rows"),
    behaviour("row_order", &["newest_first", "random"], "the order of rows"),
    behaviour("csv_dialect", &["plain", "bom_crlf", "gzip"], "byte order mark and CRLF, or Content-Encoding gzip"),
    behaviour(
        "json_shape",
        &["object", "paged", "bare", "sparse"],
        "a JSON result: a list in an object, paging keys around it, the bare list, or empty values null or left out",
    ),
    behaviour("columns", &["stable", "extra", "extra_after_a_day", "lower_case"], "how the columns drift"),
    behaviour("postbacks", &["completion", "also_failures", "duplicates"], "which ends are posted back, how often"),
    behaviour("queue", &["serial", "parallel"], "whether the jobs of an account wait for each other"),
    behaviour("open_window", &["extends", "fixed"], "Replay of a window without an end: to now, or as it was"),
    behaviour("reversed_rows", &["omitted", "included"], "reversed actions where no SUPERSTATUS_MS is given"),
    behaviour("failed_replay_file", &["gone", "kept"], "the old file after a Replay that failed"),
    behaviour("foreign_job", &["404", "403"], "a job of another account"),
    behaviour("unknown_report", &["404", "error_in_200"], "an unknown report on Brand"),
    behaviour("stale_reads_after_replay", &["0", "1", "2"], "reads after a Replay that still show the old job"),
];

/// The answers in force.
#[derive(Debug, Clone)]
pub struct Behaviours(BTreeMap<&'static str, &'static str>);

impl Behaviours {
    /// Every switch there is, its values and what it is about.
    pub fn all() -> &'static [Behaviour] {
        ALL
    }

    /// Sets a switch, written `name=value`.
    pub fn set(&mut self, setting: &str) -> Result<(), UnknownBehaviour> {
        let unknown = || UnknownBehaviour { setting: setting.to_owned() };
        let (name, value) = setting.split_once('=').ok_or_else(unknown)?;
        let known = ALL.iter().find(|behaviour| behaviour.name == name.trim()).ok_or_else(unknown)?;
        let value = known.values.iter().find(|known| **known == value.trim()).ok_or_else(unknown)?;
        self.0.insert(known.name, value);
        Ok(())
    }

    /// The answer in force.
    pub fn get(&self, name: &str) -> &'static str {
        self.0.get(name).copied().expect("only switches of the table are asked for")
    }

    /// Whether `value` is the answer in force.
    pub fn is(&self, name: &str, value: &str) -> bool {
        debug_assert!(
            ALL.iter().any(|behaviour| behaviour.name == name && behaviour.values.contains(&value)),
            "{name}={value} is a switch of the table"
        );
        self.get(name) == value
    }
}

impl Default for Behaviours {
    fn default() -> Self {
        Self(ALL.iter().map(|behaviour| (behaviour.name, behaviour.values[0])).collect())
    }
}

impl fmt::Display for Behaviours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name}={value}"))
    }
}

/// A setting that is not in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBehaviour {
    setting: String,
}

impl fmt::Display for UnknownBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sandbox has no behaviour {:?}; it has", self.setting)?;
        ALL.iter().try_for_each(|known| write!(f, "\n  {}={}", known.name, known.values.join("|")))
    }
}

impl std::error::Error for UnknownBehaviour {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_can_be_set_and_starts_with_its_first_value() {
        let mut behaviours = Behaviours::default();
        assert!(behaviours.is("replay_id", "persona"));
        behaviours.set("replay_id=new").unwrap();
        assert!(behaviours.is("replay_id", "new"));
    }

    #[test]
    fn an_unknown_switch_or_value_is_refused_with_a_list_of_what_there_is() {
        for setting in ["replay_id", "replay_id=maybe", "replay=new"] {
            let error = Behaviours::default().set(setting).unwrap_err().to_string();
            assert!(error.contains("replay_id=persona|same|new|invert"), "{error}");
        }
    }

    #[test]
    fn every_name_is_there_once() {
        assert_eq!(Behaviours::default().0.len(), ALL.len());
    }
}
