use std::collections::BTreeSet;

use super::*;
use crate::export::ReportHandle;

/// Every handle that impact-api §6 names.
const HANDLES: [&str; 98] = [
    // Partner, §6.1.
    "mp_action_listing_fast",
    "mp_action_listing_sku",
    "mp_action_listing_sku_fast",
    "mp_action_listing_sku_and_permissions",
    "mp_action_listing_sku_oid",
    "mp_action_listing_sku_shopify",
    "custom_mp_action_listing_sku",
    "cust_mp_action_listing_sku_text1_string1",
    "mp_action_sku_listing",
    "SkuLevelActions",
    "mp_action_listing_clearing_date",
    "action_listing_paystub",
    "PaystubActions",
    "action_listing_withdrawal",
    "mp_action_listing_cpc_action",
    "mp_bonus_make_good_listing",
    "other_earnings",
    "RMNPaymentNonActions",
    "mp_overdue_payouts",
    "partner_funds_transfer_listing",
    "partner_payable_click_data",
    "custom_partner_payable_click_data",
    "partner_performance_by_day",
    "partner_performance_by_day_legacy",
    "partner_performance_by_month",
    "partner_performance_by_month_legacy",
    "partner_performance_by_program",
    "partner_performance_by_program_legacy",
    "partner_performance_by_ad",
    "partner_performance_by_ad_legacy",
    "partner_performance_by_subid",
    "partner_performance_by_category",
    "partner_performance_by_country",
    "partner_performance_by_event_type",
    "partner_performance_by_product",
    "partner_performance_by_promo_code",
    "partner_performance_by_referral_type",
    "partner_performance_by_ref_domain",
    "partner_performance_by_ref_url",
    "partner_performance_by_device",
    "partner_perf_by_vlink",
    "custom_partner_perf_by_vlink_by_day",
    "PerformanceByCampaigns",
    "custom_partner_performance_by_product",
    "seller_perf_by_program",
    "partner_seller_Perf_by_product",
    "mp_assigned_tracking_values",
    "mp_vanity_links",
    "mp_adv_contacts",
    "mp_category_exception_list_active_IO",
    "mp_sku_exception_list_active_IO",
    "mp_io_history",
    "mp_pending_insertion_orders",
    "Withdrawals",
    "withdrawal_details",
    "mp_paystub_history",
    "mp_invoice_history",
    "mp_invoice_history_walmart",
    "invoice_details_action_earnings_gaap",
    "mp_monthly_close",
    "topcashback",
    "credit_karma_individual_click_action_listing",
    "12172",
    "mp_performance_by_day",
    "ebay_partner_transaction_detail",
    "ebay_partner_perf_by_day",
    "ebay_partner_perf_by_campaign",
    "ebay_partner_perf_by_campaign_v2",
    "ebay_partner_click_detail",
    // On the web pages alone.
    "mp_violations_listing",
    "io_history_detail",
    "creator_partner_perf_by_brand",
    "creator_partner_perf_by_campaign",
    "creator_partner_perf_by_social_platform",
    "mp_earnings_by_campaign",
    "mp_action_listing_envato",
    "skimbit_other_earnings",
    // Brand, §6.2.
    "adv_action_listing_pm_only",
    "adv_action_listing_pm",
    "adv_action_listing",
    "adv_action_listing_fast_pm_only",
    "adv_action_list_sku_pm_only",
    "adv_click_data_pm_only",
    "4222",
    "att_adv_performance_by_day_pm_only",
    "att_adv_performance_by_media_pm_only",
    "adv_performance_by_media",
    "adv_performance_by_ad_pm_only",
    "adv_performance_by_ad_media_date",
    "att_adv_performance_by_ref_domain_pm_only",
    "att_adv_performance_by_shared_id_pm_only",
    "att_adv_performance_by_IO",
    "adv_performance_by_channel",
    "performance_by_partner_all_programs",
    "partner_funds_transfer_listing_",
    "adv_db_new_mps_groups",
    "adv_generation_foundation_campaign_dashboard",
    // Agency, §6.3.
    "agency_action_listing",
];

fn entries() -> impl Iterator<Item = (&'static str, &'static Entry)> {
    let named = |(name, entry): (&'static String, &'static Entry)| (name.as_str(), entry);
    catalogue().reports.iter().map(named).chain(catalogue().clicks.iter().map(named))
}

#[test]
fn every_handle_of_the_reference_is_known_and_no_other() {
    let known: BTreeSet<&str> = catalogue().reports.keys().map(String::as_str).collect();
    assert_eq!(known, BTreeSet::from(HANDLES));
    let clicks: Vec<&str> = catalogue().clicks.keys().map(String::as_str).collect();
    assert_eq!(clicks, ["brand", "partner"]);
    assert!(HANDLES.iter().all(|handle| ReportHandle::is_well_formed(handle)));
}

#[test]
fn no_entry_contradicts_itself() {
    for (handle, entry) in entries() {
        assert_eq!(entry.faults(), [], "{handle}");
        assert!(!entry.name.is_empty(), "{handle}");
        for sentence in entry.columns.values().map(|column| &column.says).chain([&entry.says]).chain(&entry.limits) {
            assert!(
                sentence.ends_with('.') && sentence.starts_with(|c: char| c.is_uppercase() || c.is_numeric())
                    || sentence.starts_with("impact.com"),
                "{handle}: {sentence}"
            );
        }
        assert!(entry.changes.is_some() || entry.grain == Certainty::Inferred, "{handle}: how do its rows change?");
        for (name, column) in &entry.columns {
            let again = entry.columns.keys().filter(|other| other.eq_ignore_ascii_case(name)).count();
            assert_eq!(again, 1, "{handle}: {name}");
            assert!(!column.says.is_empty(), "{handle}: {name}");
        }
    }
}

#[test]
fn every_fact_says_how_sure_it_is() {
    let text: toml::Table = toml::from_str(include_str!("../../../config/catalogue.toml")).expect("TOML");
    for group in ["reports", "clicks"] {
        for (handle, entry) in text[group].as_table().expect("a table") {
            assert!(entry.get("certainty").is_some() && entry.get("grain").is_some(), "{handle}");
            for (name, column) in entry.get("columns").and_then(toml::Value::as_table).into_iter().flatten() {
                assert!(column.get("certainty").is_some(), "{handle}: {name}");
            }
        }
    }
}

#[test]
fn what_is_used_for_loading_is_no_mere_guess() {
    for (handle, entry) in entries() {
        let used = entry.key.iter().chain(&entry.date_column);
        for name in used {
            let known = entry.column(name);
            assert!(known.is_some_and(|column| column.certainty != Certainty::Inferred), "{handle}: {name}");
        }
        if let Some(rule) = &entry.locked {
            let columns = [Some(&rule.status_column), rule.date_column.as_ref(), rule.detail_column.as_ref()];
            assert!(columns.into_iter().flatten().all(|name| entry.column(name).is_some()), "{handle}");
        }
    }
}

#[test]
fn action_listings_ask_for_every_status() {
    for (handle, entry) in &catalogue().reports {
        let lists_actions = entry.changes == Some(Changes::UntilLocked) && !entry.web_only;
        assert_eq!(entry.params.contains_key("SUPERSTATUS_MS"), lists_actions, "{handle}");
        if lists_actions {
            assert_eq!(entry.params["SUPERSTATUS_MS"], ["APPROVED", "PENDING", "REVERSED", "NA"], "{handle}");
        }
    }
}

#[test]
fn what_does_not_change_is_not_read_again() {
    for (handle, entry) in &catalogue().reports {
        if matches!(entry.changes, Some(Changes::Snapshot)) {
            assert_eq!(entry.refresh.as_deref(), Some(&[][..]), "{handle}");
            assert!(entry.date_column.is_none(), "{handle}");
        }
    }
}

#[test]
fn a_report_is_known_to_its_persona_alone() {
    let source = Source::Report(ReportHandle::new("mp_action_listing_fast"));
    assert!(catalogue().entry(&source, Persona::Partner).is_some());
    assert!(catalogue().entry(&source, Persona::Brand).is_none());
    assert!(catalogue().entry(&Source::Clicks, Persona::Agency).is_none());
}

#[test]
fn what_is_not_known_is_not_there() {
    let entry: Entry =
        toml::from_str("persona = \"brand\"\n[columns]\nA = { says = \"Something.\" }\n").expect("an entry");
    assert!(entry.refresh.is_none() && entry.types().is_empty());
    let entry: Entry = toml::from_str("persona = \"brand\"\nrefresh = []\n").expect("an entry");
    assert_eq!(entry.refresh, Some(Vec::new()));
    let refused = toml::from_str::<Entry>("persona = \"brand\"\nkee = [\"A\"]\n").expect_err("an unknown key");
    assert!(refused.to_string().contains("kee"), "{refused}");
}
