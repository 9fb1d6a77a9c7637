//! What each key of the configuration holds, as text to be compared and shown; secrets are compared and never shown.
//!
//! Every struct is taken apart whole: a new setting does not compile until somebody has said how it is compared.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::duration;
use super::settings::{
    Account, Alerts, Archive, Database, DatabaseUrl, Export, Http, Programs, Quota, Receiver, Settings, Workers,
};
use crate::doubt::OnDoubts;
use crate::export::Source;

/// What each key holds once file, environment, catalogue and defaults are laid over each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys(pub(super) BTreeMap<String, Held>);

/// What a key holds.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Shown(String),
    Secret(SecretString),
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shown(ours), Self::Shown(theirs)) => ours == theirs,
            (Self::Secret(ours), Self::Secret(theirs)) => ours.expose_secret() == theirs.expose_secret(),
            (Self::Shown(_), Self::Secret(_)) | (Self::Secret(_), Self::Shown(_)) => false,
        }
    }
}

impl Settings {
    /// What each key holds.
    pub fn keys(&self) -> Keys {
        let Self {
            reload_on_change,
            database,
            http,
            workers,
            spool_dir,
            state_dir,
            archive,
            alerts,
            downstream,
            accounts,
            catalogue,
            exports,
        } = self;
        let mut keys = Keys::default();
        keys.show("reload_on_change", reload_on_change);
        keys.show("state_dir", state_dir.display());
        keys.show("spool.dir", spool_dir.display());
        keys.database(database);
        keys.http(http);
        keys.workers(workers);
        if let Some(Archive { url, keep }) = archive {
            let has_secret = !url.username().is_empty() || url.password().is_some();
            keys.hold("archive.url", if has_secret { secret(url.as_str()) } else { Held::Shown(url.to_string()) });
            keys.duration("archive.keep", *keep);
        }
        if let Some(Alerts { receiver, repeat, every }) = alerts {
            keys.receiver("alerts", receiver);
            keys.duration("alerts.repeat", *repeat);
            keys.duration("alerts.every", *every);
        }
        if let Some(receiver) = downstream {
            keys.receiver("downstream", receiver);
        }
        for account in accounts.values() {
            keys.account(account);
        }
        for (handle, entry) in catalogue {
            keys.debug(format!("catalogue.{handle}"), entry);
        }
        for export in exports.values() {
            keys.export(export);
        }
        keys
    }
}

fn secret(text: &str) -> Held {
    Held::Secret(SecretString::from(text))
}

impl Keys {
    fn hold(&mut self, key: impl Into<String>, held: Held) {
        self.0.insert(key.into(), held);
    }

    fn show(&mut self, key: impl Into<String>, value: impl fmt::Display) {
        self.hold(key, Held::Shown(value.to_string()));
    }

    /// For what has no shorter way to be written.
    fn debug(&mut self, key: impl Into<String>, value: impl fmt::Debug) {
        self.hold(key, Held::Shown(format!("{value:?}")));
    }

    fn duration(&mut self, key: impl Into<String>, value: Duration) {
        self.show(key, duration::write(value));
    }

    fn optional_secret(&mut self, key: impl Into<String>, value: Option<&SecretString>) {
        if let Some(value) = value {
            self.hold(key, Held::Secret(value.clone()));
        }
    }

    fn database(&mut self, database: &Database) {
        let Database { url, schema, distribution } = database;
        self.hold(
            "database.url",
            match url {
                DatabaseUrl::Embedded => Held::Shown("embedded".to_owned()),
                DatabaseUrl::Url(url) => Held::Secret(url.clone()),
            },
        );
        self.show("database.schema", schema);
        self.debug("database.distribution", distribution);
    }

    fn http(&mut self, http: &Http) {
        let Http { listen, postback_secret, token, hosts } = http;
        self.show("http.listen", listen);
        self.optional_secret("http.postback_secret", postback_secret.as_ref());
        self.optional_secret("http.token", token.as_ref());
        self.debug("http.hosts", hosts);
    }

    fn workers(&mut self, workers: &Workers) {
        let Workers { submit, poll, load, poll_min, poll_max, lease, job_deadline } = workers;
        self.show("workers.submit", submit);
        self.show("workers.poll", poll);
        self.show("workers.load", load);
        self.duration("workers.poll_min", *poll_min);
        self.duration("workers.poll_max", *poll_max);
        self.duration("workers.lease", *lease);
        self.duration("workers.job_deadline", *job_deadline);
    }

    fn receiver(&mut self, section: &str, receiver: &Receiver) {
        let Receiver { url, format, secret } = receiver;
        self.hold(format!("{section}.url"), Held::Secret(url.clone()));
        self.debug(format!("{section}.format"), format);
        self.optional_secret(format!("{section}.secret"), secret.as_ref());
    }

    fn account(&mut self, account: &Account) {
        let Account { name, persona, sid, auth_token, base_url, time_zone, programs, quota } = account;
        let Quota {
            report_export_per_day,
            click_export_per_day,
            requests_per_hour,
            share,
            replay_cost,
            duplicate_cost,
            refused_cost,
        } = quota;
        let key = |key: &str| format!("accounts.{name}.{key}");
        self.show(key("persona"), persona);
        self.show(key("account_sid"), sid.as_str());
        self.hold(key("auth_token"), Held::Secret(auth_token.clone()));
        self.show(key("base_url"), base_url);
        self.show(key("time_zone"), time_zone);
        self.programs(key("programs"), programs);
        self.show(key("quota.report_export_per_day"), report_export_per_day);
        self.show(key("quota.click_export_per_day"), click_export_per_day);
        self.show(key("quota.requests_per_hour"), requests_per_hour);
        self.show(key("quota.share"), share);
        self.show(key("quota.replay_cost"), replay_cost);
        self.show(key("quota.duplicate_cost"), duplicate_cost);
        self.show(key("quota.refused_cost"), refused_cost);
    }

    fn programs(&mut self, key: String, programs: &Programs) {
        match programs {
            Programs::All => self.show(key, "all"),
            Programs::Listed(programs) => self.list(key, programs),
        }
    }

    fn list<T: fmt::Display>(&mut self, key: String, items: &[T]) {
        let items: Vec<String> = items.iter().map(T::to_string).collect();
        self.show(key, format!("[{}]", items.join(", ")));
    }

    fn export(&mut self, export: &Export) {
        let Export {
            name,
            accounts,
            source,
            schedule,
            since,
            per_program,
            programs,
            params,
            result_format,
            key: columns,
            date_column,
            max_window_days,
            refresh,
            locked,
            max_rows,
            freshness,
            include_today,
            history,
            on_type_conflict,
            on_doubts,
            partition,
            keep_days,
            types,
            typed_by_user: _, // follows from `types`
        } = export;
        let key = |key: &str| format!("exports.{name}.{key}");
        self.list(key("accounts"), accounts);
        match source {
            Source::Report(handle) => self.show(key("report"), handle),
            Source::Clicks => self.show(key("clicks"), true),
        }
        self.show(key("schedule"), schedule);
        self.show(key("since"), since);
        self.show(key("per_program"), per_program);
        self.programs(key("programs"), programs);
        self.debug(key("params"), params);
        self.show(key("result_format"), result_format);
        self.list(key("key"), columns);
        if let Some(column) = date_column {
            self.show(key("date_column"), column);
        }
        self.show(key("max_window"), format!("{max_window_days}d"));
        let refresh = refresh
            .iter()
            .map(|rule| format!("{} every {}", duration::write(rule.age), duration::write(rule.every)))
            .collect::<Vec<_>>();
        self.list(key("refresh"), &refresh);
        if let Some(locked) = locked {
            self.debug(key("locked"), locked);
        }
        if let Some(rows) = max_rows {
            self.show(key("max_rows"), rows);
        }
        self.duration(key("freshness"), *freshness);
        self.show(key("include_today"), include_today);
        self.show(key("history"), history);
        self.debug(key("on_type_conflict"), on_type_conflict);
        let OnDoubts { count_mismatch, unexpected_zero, truncation } = on_doubts;
        self.debug(key("on_count_mismatch"), count_mismatch);
        self.debug(key("on_unexpected_zero"), unexpected_zero);
        self.debug(key("on_truncation"), truncation);
        self.debug(key("partition"), partition);
        if let Some(days) = keep_days {
            self.show(key("keep"), format!("{days}d"));
        }
        self.debug(key("types"), types);
    }
}
