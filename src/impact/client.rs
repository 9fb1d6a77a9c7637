//! The calls, one function each.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use reqwest::Method;
use serde_json::Value;
use url::Url;

use super::address::Address;
use super::catalogue::{Company, ProgramInfo, ReportInfo, ReportMetaData};
use super::download::{self, Downloaded};
use super::error::{Call, Error};
use super::job::{RemoteJob, RemoteJobId, Submitted};
use super::limits::{Answer, Limits};
use super::transport::{Patience, Transport};
use super::wire::{Document, Fields};
use crate::config;
use crate::export::{ExportRequest, ReportHandle};

/// The most pages of a list that are read.
const MOST_PAGES: usize = 200;

/// Speaks to impact.com for one account. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    transport: Transport,
    zone: Tz,
}

impl Client {
    /// A client with the credential of `account`; sends nothing yet.
    pub fn new(account: &config::Account) -> Result<Self, Error> {
        Self::with_patience(account, Patience::USUAL)
    }

    pub(super) fn with_patience(account: &config::Account, patience: Patience) -> Result<Self, Error> {
        let address = Address::new(account);
        let transport = Transport::new(account, &address, patience)?;
        Ok(Self { inner: Arc::new(Inner { address, transport, zone: account.time_zone }) })
    }

    /// Orders an export (impact-api §2.2, §2.3). A request that was made before is answered with its old job.
    pub async fn submit(&self, request: &ExportRequest) -> Result<Answer<Submitted>, Error> {
        let url = self.inner.address.submission(request)?;
        self.read(Call::Submit, Method::GET, url, Submitted::read).await
    }

    /// Reads a job (impact-api §2.5).
    pub async fn job(&self, id: &RemoteJobId) -> Result<Answer<RemoteJob>, Error> {
        let url = self.inner.address.path(Call::Job, &["Jobs", id.as_str()])?;
        self.read(Call::Job, Method::GET, url, |fields| self.remote_job(fields)).await
    }

    /// Lists the jobs created in a span, from all pages, in no order (impact-api §2.4). Most personas take whole days, so
    /// jobs outside the span come too. `server_date` is that of the first page.
    ///
    /// Here and below, each further call that turns out to be needed is paid first; who pays is told what the answer before
    /// it said of quota.
    pub async fn jobs<F: Future<Output = bool> + Send>(
        &self,
        created_after: DateTime<Utc>,
        created_before: DateTime<Utc>,
        pay: impl Fn(Limits) -> F + Send,
    ) -> Result<Answer<Vec<RemoteJob>>, Error> {
        let url = self.inner.address.jobs(created_after, created_before)?;
        let items = self.list(Call::Jobs, url, "Jobs", pay).await?;
        let mut seen = HashSet::new();
        Ok(items.map(|items| {
            let jobs = items.iter().filter_map(|item| self.remote_job(Fields::new(item.as_object()?)));
            jobs.filter(|job| seen.insert(job.id.clone())).collect()
        }))
    }

    /// Runs a job again (impact-api §2.7). The answer may name another job, which is then the one to follow.
    pub async fn replay(&self, id: &RemoteJobId) -> Result<Answer<RemoteJob>, Error> {
        let url = self.inner.address.path(Call::Replay, &["Jobs", id.as_str(), "Replay"])?;
        self.read(Call::Replay, Method::PUT, url, |fields| self.remote_job(fields)).await
    }

    /// Where the list of the jobs created in a span begins; for who reads it page by page.
    pub fn jobs_from(&self, created_after: DateTime<Utc>, created_before: DateTime<Utc>) -> Result<JobsPage, Error> {
        self.inner.address.jobs(created_after, created_before).map(JobsPage)
    }

    /// Reads one page of the list of jobs, and where it goes on, if it does.
    pub async fn jobs_page(&self, page: JobsPage) -> Result<Answer<(Vec<RemoteJob>, Option<JobsPage>)>, Error> {
        let answer = self.page(Call::Jobs, page.0, "Jobs").await?;
        Ok(answer.map(|read| {
            let next = if read.items.is_empty() { None } else { self.next_page(&read).map(JobsPage) };
            let jobs = read.items.iter().filter_map(|item| self.remote_job(Fields::new(item.as_object()?)));
            (jobs.collect(), next)
        }))
    }

    /// Fetches the result of a job (impact-api §2.6), as far as its first bytes; the rest is read from the body.
    /// Where storage refuses the URL, a fresh one is asked for once that is paid.
    pub async fn download<F: Future<Output = bool> + Send>(
        &self,
        id: &RemoteJobId,
        pay: impl Fn(Limits) -> F + Send,
    ) -> Downloaded {
        let Inner { address, transport, zone } = &*self.inner;
        download::download(address, transport, *zone, id, pay).await
    }

    /// Who the account belongs to; also the cheapest test of a credential (impact-api §1.2, §2.10).
    pub async fn company(&self) -> Result<Answer<Company>, Error> {
        let url = self.inner.address.path(Call::Company, &["CompanyInformation"])?;
        self.read(Call::Company, Method::GET, url, |fields| Some(Company::read(fields))).await
    }

    /// The programs of a brand or partner, the brands of an agency (impact-api §2.10).
    pub async fn programs<F: Future<Output = bool> + Send>(
        &self,
        pay: impl Fn(Limits) -> F + Send,
    ) -> Result<Answer<Vec<ProgramInfo>>, Error> {
        let address = &self.inner.address;
        let items = self.list(Call::Programs, address.programs()?, address.programs_key(), pay).await?;
        Ok(items.map(|items| items.iter().filter_map(ProgramInfo::read).collect()))
    }

    /// The reports that the account lists, exportable or not (impact-api §2.8).
    pub async fn reports<F: Future<Output = bool> + Send>(
        &self,
        pay: impl Fn(Limits) -> F + Send,
    ) -> Result<Answer<Vec<ReportInfo>>, Error> {
        let url = self.inner.address.path(Call::Reports, &["Reports"])?;
        let items = self.list(Call::Reports, url, "Reports", pay).await?;
        Ok(items.map(|items| items.iter().filter_map(ReportInfo::read).collect()))
    }

    /// The filters and columns of a report (impact-api §2.8).
    pub async fn report_columns(&self, handle: &ReportHandle) -> Result<Answer<ReportMetaData>, Error> {
        let url = self.inner.address.report_columns(handle)?;
        self.read(Call::ReportColumns, Method::GET, url, |fields| Some(ReportMetaData::read(fields))).await
    }

    fn remote_job(&self, fields: Fields<'_>) -> Option<RemoteJob> {
        RemoteJob::read(fields, self.inner.zone, &self.inner.transport.cleaner)
    }

    /// Asks for one object.
    async fn read<T>(
        &self,
        call: Call,
        method: Method,
        url: Url,
        read: impl FnOnce(Fields<'_>) -> Option<T>,
    ) -> Result<Answer<T>, Error> {
        let answer = self.inner.transport.envelope(call, method, url).await?;
        let value = answer.value.fields().and_then(read).ok_or_else(|| unreadable(call, &answer.value))?;
        Ok(answer.map(|_| value))
    }

    /// Asks for a list and follows its pages (impact-api §1.5).
    async fn list<F: Future<Output = bool> + Send>(
        &self,
        call: Call,
        url: Url,
        key: &str,
        pay: impl Fn(Limits) -> F + Send,
    ) -> Result<Answer<Vec<Value>>, Error> {
        let mut visited = HashSet::from([url.clone()]);
        let first = self.page(call, url, key).await?;
        let mut next = self.next_page(&first.value);
        let mut all = first.map(|page| page.items);
        while let Some(url) = next.filter(|url| !visited.contains(url)) {
            if visited.len() == MOST_PAGES {
                let problem = format!("the list goes on after {MOST_PAGES} pages");
                return Err(Error::Unreadable { call, problem });
            }
            if !pay(all.limits).await {
                return Err(Error::Unpaid { call });
            }
            visited.insert(url.clone());
            let page = self.page(call, url, key).await?;
            all.limits = page.limits;
            next = if page.value.items.is_empty() { None } else { self.next_page(&page.value) };
            all.value.extend(page.value.items);
        }
        Ok(all)
    }

    async fn page(&self, call: Call, url: Url, key: &str) -> Result<Answer<Page>, Error> {
        let answer = self.inner.transport.envelope(call, Method::GET, url).await?;
        let items = answer.value.items(key).ok_or_else(|| unreadable(call, &answer.value))?;
        Ok(answer.map(|document| Page { items, next_link: next_link(&document) }))
    }

    fn next_page(&self, page: &Page) -> Option<Url> {
        page.next_link.as_deref().and_then(|link| self.inner.address.page(link))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A page of the list of jobs, to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsPage(Url);

struct Page {
    items: Vec<Value>,
    next_link: Option<String>,
}

/// The link to the next page, unless this is the last one by its own number.
fn next_link(document: &Document) -> Option<String> {
    let fields = document.fields()?;
    let is_last = fields.integer("@page").zip(fields.integer("@numpages")).is_some_and(|(page, pages)| page >= pages);
    if is_last { None } else { fields.text("@nextpageuri") }
}

fn unreadable(call: Call, document: &Document) -> Error {
    Error::Unreadable { call, problem: format!("it is {}", document.name()) }
}
