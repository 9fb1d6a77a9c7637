//! What an engine is made of: built from the settings alone, so that a configuration which is no good is found out before
//! anything has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use sqlx::PgPool;

use super::retention;
use crate::account::AccountName;
use crate::archive::Archive;
use crate::clock::DatabaseClock;
use crate::config::{Export, Settings};
use crate::export::ExportName;
use crate::impact;
use crate::metrics::tally::Tally;
use crate::pulse::Pulse;
use crate::spool::Spool;
use crate::store;
use crate::store::quiet::Quiet;
use crate::wake::Wakes;
use crate::webhook::Webhook;
use crate::worker::{self, Context};

/// The parts of an engine that follow from its settings.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub settings: Arc<Settings>,
    /// The exports it works on.
    pub exports: Vec<ExportName>,
    pub archive: Option<Arc<Archive>>,
    pub spool: Spool,
    pub webhooks: Vec<Webhook>,
    clients: BTreeMap<AccountName, impact::Client>,
}

impl Parts {
    /// Makes them; speaks to nobody.
    pub fn new(settings: Settings, exports: Vec<ExportName>) -> anyhow::Result<Self> {
        let clients = clients(&settings)?;
        let archive = settings.archive.as_ref().map(|archive| Archive::open(&archive.url)).transpose()?;
        Ok(Self {
            exports,
            archive: archive.map(Arc::new),
            spool: Spool::open(&settings.spool_dir)?,
            webhooks: webhooks(&settings)?,
            clients,
            settings: Arc::new(settings),
        })
    }

    /// Fails where a table is not partitioned as its settings say.
    pub async fn check_partitions(&self, pool: &PgPool) -> anyhow::Result<()> {
        let mut conn = pool.acquire().await.context("no connection to the database")?;
        for export in self.exports.iter().filter_map(|name| self.settings.exports.get(name)) {
            retention::check(&mut conn, &self.settings, export).await?;
        }
        Ok(())
    }

    /// What the steps of one engine run with.
    pub fn context(&self, pool: &PgPool, pulse: Pulse, tally: Arc<Tally>) -> Arc<Context> {
        let settings = &self.settings;
        let worker = store::job::Worker {
            holder: holder(),
            lease: settings.workers.lease,
            accounts: settings.accounts.keys().map(|name| name.as_str().to_owned()).collect(),
            exports: self.exports.iter().map(|name| name.as_str().to_owned()).collect(),
            followed: with_neighbours(settings, &self.exports),
            turns: store::claim::Turns::default(),
        };
        Arc::new(Context {
            pool: pool.clone(),
            settings: Arc::clone(settings),
            clients: self.clients.clone(),
            worker,
            spool: self.spool.clone(),
            archive: self.archive.clone(),
            wakes: Arc::new(Wakes::default()),
            pulse: Arc::new(pulse),
            tally,
            leases: worker::Leases::default(),
            metadata: worker::MetaData::default(),
            clock: DatabaseClock::default(),
            quiet: Quiet::default(),
        })
    }
}

/// Exports, and all others that share an account with one of them.
fn with_neighbours(settings: &Settings, exports: &[ExportName]) -> Vec<String> {
    let accounts: BTreeSet<&AccountName> =
        exports.iter().filter_map(|name| settings.exports.get(name)).flat_map(|export| &export.accounts).collect();
    let shares = |export: &&Export| export.accounts.iter().any(|account| accounts.contains(account));
    settings.exports.values().filter(shares).map(|export| export.name.as_str().to_owned()).collect()
}

fn clients(settings: &Settings) -> anyhow::Result<BTreeMap<AccountName, impact::Client>> {
    settings
        .accounts
        .values()
        .map(|account| {
            let client = impact::Client::new(account).with_context(|| format!("account {}", account.name))?;
            Ok((account.name.clone(), client))
        })
        .collect()
}

/// Those who are told something.
fn webhooks(settings: &Settings) -> anyhow::Result<Vec<Webhook>> {
    let alerts = settings.alerts.as_ref().map(|alerts| Webhook::new("alerts", &alerts.receiver));
    let downstream = settings.downstream.as_ref().map(|receiver| Webhook::new("downstream", receiver));
    let webhooks: Result<Vec<_>, _> = alerts.into_iter().chain(downstream).collect();
    Ok(webhooks?)
}

/// Host, process and a few random letters: unique, and a person knows where to look.
pub(super) fn holder() -> String {
    let host =
        nix::unistd::gethostname().map_or_else(|_| "host".to_owned(), |name| name.to_string_lossy().into_owned());
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}-{}", std::process::id(), &random[..6])
}
