//! The few calls of commands that look around: each is charged before it is made, where there is a database to write that
//! to, and what its answer says of quota is written down.

use std::time::Duration;

use sqlx::PgPool;

use super::{Database, Patience, write_configuration};
use crate::account::AccountName;
use crate::config::Settings;
use crate::error_chain::Chain;
use crate::export::ReportHandle;
use crate::impact::{self, Answer, Client, Company, Limits, ProgramInfo, ReportInfo, ReportMetaData};
use crate::store;
use crate::store::heard::Paid;
use crate::store::quota::{ChargeId, Charged};
use crate::worker::ledger::{Caller, Series};

/// How long a command that only wants to write down its calls waits for the database.
const PATIENCE: Patience = Patience::Until(Duration::from_secs(5));

/// The database that calls are written down in; `None`, with a warning, where it cannot be used: a look at impact.com is not
/// refused for that.
pub async fn ledger(settings: &Settings) -> Option<Database> {
    let opened = async {
        let database = Database::open(settings, PATIENCE).await?.expect("a command's patience has no stop signal");
        match write_configuration(database.pool(), settings).await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await?;
                Err(error)
            }
        }
    };
    match opened.await {
        Ok(database) => Some(database),
        Err(error) => {
            tracing::warn!(error = %Chain(error.as_ref()), "the calls are not counted, for the database cannot be used");
            None
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It was not made.
    #[error("the hourly requests of the account are spent; try again in an hour")]
    Spent,
    /// It could not be charged, so that it was not made.
    #[error("the call cannot be charged")]
    Uncharged(#[from] store::Error),
    /// It was made, and refused or lost.
    #[error(transparent)]
    Failed(#[from] impact::Error),
}

/// Makes calls for an account, and pays for them where there is a database.
#[derive(Debug, Clone, Copy)]
pub struct Payer<'a> {
    client: &'a Client,
    account: &'a AccountName,
    pool: Option<&'a PgPool>,
}

impl<'a> Payer<'a> {
    /// For `account`, which the database knows if there is one.
    pub fn new(client: &'a Client, account: &'a AccountName, database: Option<&'a Database>) -> Self {
        Self { client, account, pool: database.map(Database::pool) }
    }

    /// Who the account belongs to.
    pub async fn company(&self) -> Result<Company, Unanswered> {
        let charge = self.pay("company").await?;
        let answer = self.client.company().await;
        self.heard(charge.map(|charge| Paid::Charge(self.account, charge)), answer).await
    }

    /// Its programs, from all pages.
    pub async fn programs(&self) -> Result<Vec<ProgramInfo>, Unanswered> {
        let pages = self.series("programs").await?;
        let answer = self.client.programs(|limits| pay_page(pages.as_ref(), limits)).await;
        self.heard(pages.as_ref().map(Series::paid), answer).await
    }

    /// The reports that it lists, from all pages.
    pub async fn reports(&self) -> Result<Vec<ReportInfo>, Unanswered> {
        let pages = self.series("reports").await?;
        let answer = self.client.reports(|limits| pay_page(pages.as_ref(), limits)).await;
        self.heard(pages.as_ref().map(Series::paid), answer).await
    }

    /// The filters and columns of a report.
    pub async fn report_columns(&self, handle: &ReportHandle) -> Result<ReportMetaData, Unanswered> {
        let charge = self.pay("report_columns").await?;
        let answer = self.client.report_columns(handle).await;
        self.heard(charge.map(|charge| Paid::Charge(self.account, charge)), answer).await
    }

    fn caller(&self) -> Option<Caller<'a>> {
        Some(Caller { pool: self.pool?, client: self.client, account: self.account, job: None, quiet: None })
    }

    /// `None`: there is nothing to pay with, and so everything is free.
    async fn pay(&self, call: &'static str) -> Result<Option<ChargeId>, Unanswered> {
        let Some(caller) = self.caller() else { return Ok(None) };
        match caller.pay(call).await {
            Ok(Charged::Yes(charge)) => Ok(Some(charge)),
            Ok(Charged::No { .. }) => Err(Unanswered::Spent),
            Err(error) => Err(Unanswered::Uncharged(error)),
        }
    }

    async fn series(&self, call: &'static str) -> Result<Option<Series<'a>>, Unanswered> {
        let charge = self.pay(call).await?;
        Ok(self.caller().zip(charge).map(|(caller, charge)| Series::new(caller, call, charge)))
    }

    async fn heard<T>(
        &self,
        paid: Option<Paid<'_>>,
        answer: Result<Answer<T>, impact::Error>,
    ) -> Result<T, Unanswered> {
        if let Some((caller, paid)) = self.caller().zip(paid)
            && let Err(error) = caller.heard(paid, &answer).await
        {
            tracing::warn!(error = %Chain(&error), "cannot write down what an answer said of quota");
        }
        Ok(answer?.value)
    }
}

/// Pays a further page; without a database everything is free.
async fn pay_page(pages: Option<&Series<'_>>, limits: Limits) -> bool {
    match pages {
        Some(pages) => pages.pay(limits).await,
        None => true,
    }
}
