//! The reports that the sandbox offers, and a few that it only lists.

use super::data::request::Feed;
use super::options::Persona;

/// A report that can be exported.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Its handle.
    pub handle: &'static str,
    /// Its display name.
    pub name: &'static str,
    /// Its category.
    pub category: &'static str,
    /// Who has it.
    pub persona: Persona,
    /// Where its rows come from.
    pub feed: Feed,
}

const fn report(
    persona: Persona,
    handle: &'static str,
    name: &'static str,
    category: &'static str,
    feed: Feed,
) -> Report {
    Report { handle, name, category, persona, feed }
}

static REPORTS: &[Report] = &[
    report(Persona::Brand, "adv_action_listing_pm_only", "Action Listing", "Listing", Feed::BrandActions),
    report(Persona::Brand, "att_adv_performance_by_day_pm_only", "Performance by Day", "Performance", Feed::BrandByDay),
    report(
        Persona::Brand,
        "att_adv_performance_by_media_pm_only",
        "Performance by Partner",
        "Performance",
        Feed::BrandByMedia,
    ),
    report(Persona::Partner, "mp_action_listing_sku", "Advanced Action Listing", "Listing", Feed::PartnerActionsSku),
    report(Persona::Partner, "mp_action_listing_fast", "Action Listing", "Listing", Feed::PartnerActionsFast),
    report(Persona::Partner, "partner_performance_by_day", "Performance by Day", "Performance", Feed::PartnerByDay),
    report(
        Persona::Partner,
        "partner_performance_by_program",
        "Performance by Brand",
        "Performance",
        Feed::PartnerByProgram,
    ),
    report(Persona::Agency, "agency_action_listing", "Action Listing", "Performance", Feed::AgencyActions),
];

/// Reports that are listed but cannot be exported: a name, and an id where they have one.
pub static UI_ONLY: &[(&str, Option<&str>)] =
    &[("Violations", Some("violations_listing")), ("Earnings by Campaign", None), ("Social Platforms", None)];

/// The reports of a persona.
pub fn reports(persona: Persona) -> impl Iterator<Item = &'static Report> {
    REPORTS.iter().filter(move |report| report.persona == persona)
}

/// The report that a handle names, for those who have it.
pub fn find(persona: Persona, handle: &str) -> Option<&'static Report> {
    reports(persona).find(|report| report.handle.eq_ignore_ascii_case(handle))
}
