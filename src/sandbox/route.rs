//! Which endpoint a path names.

use axum::http::Method;

use super::fault::Point;
use super::options::Persona;
use super::quota::Bucket;

/// The endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Schedule a report.
    ReportExport(String),
    /// Schedule a day of clicks, of one program or of several.
    ClickExport(Option<String>),
    /// List the jobs.
    Jobs,
    /// Read a job.
    Job(String),
    /// Fetch a result.
    Download(String),
    /// Run a job again.
    Replay(String),
    /// List the reports.
    Reports,
    /// Describe a report.
    MetaData(String),
    /// Describe the account.
    CompanyInformation,
    /// List the programs.
    Campaigns,
    /// List the brands of an agency.
    Advertisers,
    /// The right path, the wrong method.
    WrongMethod,
    /// Nothing that the sandbox has.
    Unknown,
}

impl Route {
    /// The endpoint behind the persona and the SID.
    pub fn parse(method: &Method, persona: Persona, resource: &[&str]) -> Self {
        let lower: Vec<String> = resource.iter().map(|segment| segment.to_lowercase()).collect();
        let names: Vec<&str> = lower.iter().map(String::as_str).collect();
        let id = |index: usize| resource.get(index).map(|id| (*id).to_owned()).unwrap_or_default();
        let route = match (persona, names.as_slice()) {
            (_, ["reportexport", _]) => Self::ReportExport(id(1)),
            (Persona::Brand, ["programs", _, "clickexport"]) => Self::ClickExport(Some(id(1))),
            (Persona::Partner, ["clickexport"]) => Self::ClickExport(None),
            (_, ["jobs"]) => Self::Jobs,
            (_, ["jobs", _]) => Self::Job(id(1)),
            (_, ["jobs", _, "download"]) => Self::Download(id(1)),
            (_, ["jobs", _, "replay"]) => Self::Replay(id(1)),
            (_, ["reports"]) => Self::Reports,
            (_, ["reports", _, "metadata"] | ["reportsmetadata", _]) => Self::MetaData(id(1)),
            (_, ["companyinformation"]) => Self::CompanyInformation,
            (Persona::Brand | Persona::Partner, ["campaigns"]) => Self::Campaigns,
            (Persona::Agency, ["advertisers"]) => Self::Advertisers,
            _ => return Self::Unknown,
        };
        let wanted = if matches!(route, Self::Replay(_)) { Method::PUT } else { Method::GET };
        if *method == wanted { route } else { Self::WrongMethod }
    }

    /// The kind of call that faults are ordered for.
    pub fn point(&self) -> Option<Point> {
        match self {
            Self::ReportExport(_) | Self::ClickExport(_) => Some(Point::Submit),
            Self::Jobs => Some(Point::List),
            Self::Job(_) => Some(Point::Poll),
            Self::Download(_) => Some(Point::Download),
            Self::Replay(_) => Some(Point::Replay),
            Self::Reports
            | Self::MetaData(_)
            | Self::CompanyInformation
            | Self::Campaigns
            | Self::Advertisers
            | Self::WrongMethod
            | Self::Unknown => None,
        }
    }

    /// The limit that the call counts against.
    pub fn bucket(&self) -> Bucket {
        match self {
            Self::ReportExport(_) => Bucket::ReportExport,
            Self::ClickExport(_) => Bucket::ClickExport,
            Self::Jobs
            | Self::Job(_)
            | Self::Download(_)
            | Self::Replay(_)
            | Self::Reports
            | Self::MetaData(_)
            | Self::CompanyInformation
            | Self::Campaigns
            | Self::Advertisers
            | Self::WrongMethod
            | Self::Unknown => Bucket::Requests,
        }
    }

    /// What the record of calls names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ReportExport(_) => "submit_report",
            Self::ClickExport(_) => "submit_clicks",
            Self::Jobs => "list",
            Self::Job(_) => "poll",
            Self::Download(_) => "download",
            Self::Replay(_) => "replay",
            Self::Reports => "reports",
            Self::MetaData(_) => "metadata",
            Self::CompanyInformation => "company",
            Self::Campaigns => "campaigns",
            Self::Advertisers => "advertisers",
            Self::WrongMethod | Self::Unknown => "unknown",
        }
    }
}

/// The persona that a path segment names, in any case.
pub fn persona_of(segment: &str) -> Option<Persona> {
    [Persona::Brand, Persona::Partner, Persona::Agency]
        .into_iter()
        .find(|persona| persona.segment().eq_ignore_ascii_case(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_persona_has_its_own_endpoints() {
        let get = |persona, resource: &[&str]| Route::parse(&Method::GET, persona, resource);
        assert_eq!(get(Persona::Brand, &["Programs", "7", "ClickExport"]), Route::ClickExport(Some("7".into())));
        assert_eq!(get(Persona::Partner, &["clickexport"]), Route::ClickExport(None));
        assert_eq!(get(Persona::Agency, &["ClickExport"]), Route::Unknown);
        assert_eq!(get(Persona::Brand, &["Jobs", "Ab-1", "Download"]), Route::Download("Ab-1".into()));
        assert_eq!(get(Persona::Brand, &["Jobs", "Ab-1", "Replay"]), Route::WrongMethod);
        assert_eq!(persona_of("MediaPartners"), Some(Persona::Partner));
    }
}
