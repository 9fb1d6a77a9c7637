//! The views for analysts: what they show is added up here from what impact.com exports, and they live through what happens to the
//! tables under them.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use impact_mirror::app::SyncEnd;
use impact_mirror::config::Settings;
use impact_mirror::export::Source;

use super::world::{World, actions, clicks, days_ago, options};

/// Eighteen decimals, as a whole number: money is added up without losing any.
const UNIT: i128 = 1_000_000_000_000_000_000;

fn money(text: &str) -> i128 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().unwrap() };
    let part: i128 = format!("{part:0<18}").parse().unwrap();
    sign * (whole * UNIT + part)
}

/// The records of a CSV file, by the name of their column in lower case.
fn records(csv: &[u8]) -> Vec<BTreeMap<String, String>> {
    let (mut reader, mut rows, mut row) = (csv_core::Reader::new(), Vec::new(), Vec::new());
    let (mut rest, mut field, mut filled) = (csv, vec![0; 1 << 16], 0);
    loop {
        let (result, read, written) = reader.read_field(rest, &mut field[filled..]);
        rest = &rest[read..];
        filled += written;
        match result {
            csv_core::ReadFieldResult::InputEmpty => {}
            csv_core::ReadFieldResult::OutputFull => panic!("a long field"),
            csv_core::ReadFieldResult::Field { record_end } => {
                row.push(String::from_utf8(field[..filled].to_vec()).unwrap());
                filled = 0;
                if record_end {
                    rows.push(std::mem::take(&mut row));
                }
            }
            csv_core::ReadFieldResult::End => break,
        }
    }
    let mut rows = rows.into_iter();
    let names: Vec<String> = rows.next().unwrap().iter().map(|name| name.to_lowercase()).collect();
    rows.map(|row| names.iter().cloned().zip(row).collect()).collect()
}

/// What impact.com would export for the loaded days of an export now: account and records.
async fn truth(world: &World, settings: &Settings, name: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let export = settings.exports.values().find(|export| export.name.as_str() == name).unwrap();
    let report = match &export.source {
        Source::Report(handle) => handle.as_str(),
        Source::Clicks => "clicks",
    };
    let params: Vec<(&str, &str)> =
        export.params.iter().flat_map(|(name, all)| all.iter().map(|value| (name.as_str(), value.as_str()))).collect();
    let cells = world
        .query(format!(
            "select concat_ws('|', account, program, day) from impact_mirror.coverage \
             where export = '{name}' and loaded_at is not null order by 1"
        ))
        .await;
    let mut all = Vec::new();
    for cell in cells {
        let [account, program, day] = cell.split('|').collect::<Vec<_>>().try_into().unwrap();
        let day: NaiveDate = day.parse().unwrap();
        let sid = settings.accounts.values().find(|one| one.name.as_str() == account).unwrap().sid.as_str();
        let csv = world.sandbox.truth(sid, report, program, day, day, &params);
        all.extend(records(&csv).into_iter().map(|record| (account.to_owned(), record)));
    }
    all
}

/// What is added up of one group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    clicks: Option<u64>,
    unique: Option<u64>,
    click_payout: Option<i128>,
    actions: Option<u64>,
    reversed: Option<u64>,
    sale: i128,
    payout: i128,
    locked: i128,
}

impl Sums {
    fn action(&mut self, status: &str, sale: &str, payout: &str) {
        let is_reversed = status == "REVERSED";
        *self.actions.get_or_insert(0) += u64::from(!is_reversed);
        *self.reversed.get_or_insert(0) += u64::from(is_reversed);
        self.sale += money(sale);
        self.payout += money(payout);
        self.locked += if status == "PENDING" { 0 } else { money(payout) };
    }

    fn click(&mut self, unique: &str, payout: &str) {
        *self.clicks.get_or_insert(0) += 1;
        *self.unique.get_or_insert(0) += u64::from(unique == "true");
        if !payout.is_empty() {
            *self.click_payout.get_or_insert(0) += money(payout);
        }
    }

    fn number<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }

    fn of_actions(&self) -> String {
        format!(
            "{}|{}|{}|{}|{}|{}",
            Self::number(self.actions),
            Self::number(self.reversed),
            self.sale,
            self.payout,
            self.locked,
            self.payout - self.locked
        )
    }

    fn of_clicks(&self) -> String {
        let clicks = [Self::number(self.clicks), Self::number(self.unique), Self::number(self.click_payout)];
        let rate = match (self.actions, self.clicks) {
            // Half up, as Postgres rounds.
            (Some(actions), Some(clicks)) if clicks > 0 => ((actions * 20_000 / clicks).div_ceil(2)).to_string(),
            _ => "-".to_owned(),
        };
        format!("{}|{rate}", clicks.join("|"))
    }
}

/// How a column of numbers is compared.
fn whole(column: &str) -> String {
    format!("coalesce(trunc({column} * 1e18)::text, '0')")
}

/// The columns of actions, as `Sums::of_actions` writes them.
fn shown_actions() -> String {
    format!(
        "coalesce(actions::text, '-'), coalesce(reversed_actions::text, '-'), {}, {}, {}, {}",
        whole("sale_amount"),
        whole("payout"),
        whole("locked_payout"),
        whole("reversible_payout")
    )
}

const SHOWN_CLICKS: &str = "coalesce(clicks::text, '-'), coalesce(unique_clicks::text, '-'), \
     coalesce(trunc(click_payout * 1e18)::text, '-'), coalesce(trunc(conversion_rate * 1e4)::text, '-')";

/// What a view is to show, line by line: the names of a group, then its figures.
fn lines(groups: &BTreeMap<String, Sums>, figures: impl Fn(&Sums) -> String) -> Vec<String> {
    sorted(groups.iter().map(|(group, sums)| format!("{group}|{}", figures(sums))).collect())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// All three personas, with two exports of actions for the brand.
fn everything() -> String {
    let report = |name: &str, account: &str, handle: &str, more: &str| {
        let since = days_ago(40);
        format!("[exports.{name}]\naccounts = [\"{account}\"]\nreport = \"{handle}\"\nsince = \"{since}\"\n{more}\n")
    };
    [
        actions(40),
        report("partner_actions", "partner", "mp_action_listing_sku", ""),
        report("partner_actions_fast", "partner", "mp_action_listing_fast", "key = []\n"),
        report(
            "agency_actions",
            "agency",
            "agency_action_listing",
            "key = [\"ActionId\"]\ndate_column = \"ActionDate\"\n",
        ),
        clicks(3),
        format!("[exports.partner_clicks]\naccounts = [\"partner\"]\nclicks = true\nsince = \"{}\"\n", days_ago(3)),
    ]
    .concat()
}

/// Holds every view against the truth.
async fn assert_views(world: &World, settings: &Settings) {
    let (mut daily, mut by_partner, mut monthly) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut count = 0;
    for (name, columns) in [
        ("actions", ["", "action_date", "mp_id", "status", "sale_amount", "payout"]),
        ("partner_actions", ["campaign", "action_date", "", "status", "sale_amount", "payout"]),
        ("agency_actions", ["programid", "actiondate", "mediapartner", "status", "saleamount", "actioncost"]),
    ] {
        for (account, record) in truth(world, settings, name).await {
            let value = |index: usize| record.get(columns[index]).cloned().unwrap_or_default();
            let program = if account == "brand" { "1000".to_owned() } else { value(0) };
            let (day, partner) = (&value(1)[..10], value(2));
            for (groups, group) in [
                (&mut daily, format!("{account}|{program}|{day}")),
                (&mut by_partner, format!("{account}|{program}|{partner}|{day}")),
                (&mut monthly, format!("{account}|{program}|{partner}|{}-01", &day[..7])),
            ] {
                let sums: &mut Sums = groups.entry(group).or_default();
                sums.action(&value(3), &value(4), &value(5));
            }
            count += 1;
        }
    }
    for name in ["clicks", "partner_clicks"] {
        for (account, record) in truth(world, settings, name).await {
            let day = &record["eventdate"][..10];
            let (program, partner) = match account.as_str() {
                "brand" => (&record["programid"], record["mediaid"].as_str()),
                _ => (&record["programname"], ""),
            };
            for (groups, group) in [
                (&mut daily, format!("{account}|{program}|{day}")),
                (&mut by_partner, format!("{account}|{program}|{partner}|{day}")),
            ] {
                groups.entry(group).or_default().click(&record["uniqueclick"], &record["payout"]);
            }
        }
    }
    assert_eq!(world.value("select count(*)::text from impact.actions_current").await, count.to_string());

    let program = "case account when 'partner' then program_name else program_id end";
    // The agency's listing has no ids of partners.
    let partner = "case account when 'agency' then partner_name else coalesce(partner_id, '') end";
    let shown_actions = shown_actions();
    let shown = world
        .query(format!(
            "select concat_ws('|', account, {program}, day, {shown_actions}, {SHOWN_CLICKS}) from impact.performance_daily"
        ))
        .await;
    assert_eq!(sorted(shown), lines(&daily, |sums| format!("{}|{}", sums.of_actions(), sums.of_clicks())));
    let shown = world
        .query(format!(
            "select concat_ws('|', account, {program}, {partner}, month, {shown_actions}) from impact.payouts_monthly"
        ))
        .await;
    assert_eq!(sorted(shown), lines(&monthly, Sums::of_actions));
    let shown = world
        .query(format!(
            "select concat_ws('|', account, {program}, {partner}, day, coalesce(actions::text, '-'), {}, {}, {SHOWN_CLICKS}) \
             from impact.clicks_daily",
            whole("sale_amount"),
            whole("payout")
        ))
        .await;
    let figures =
        |sums: &Sums| format!("{}|{}|{}|{}", Sums::number(sums.actions), sums.sale, sums.payout, sums.of_clicks());
    assert_eq!(sorted(shown), lines(&by_partner, figures));
}

#[tokio::test]
async fn the_views_show_what_impact_com_exports_and_follow_what_it_restates() {
    let world = World::with(impact_mirror::sandbox::Options { actions_per_day: 12, ..options() }).await;
    let settings = world.settings(&everything());
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_views(&world, &settings).await;
    let statuses = "select string_agg(distinct concat(status, ' ', is_locked), ', ' order by concat(status, ' ', is_locked)) \
                    from impact.actions_current";
    assert_eq!(world.value(statuses).await, "APPROVED t, PENDING f, REVERSED t");

    world.pass_days(5);
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
    assert_views(&world, &settings).await;
}

#[tokio::test]
async fn what_was_known_at_a_time_is_answered_in_the_columns_of_the_views() {
    let world = World::new().await;
    let settings = world.settings(&(actions(35) + "history = true\n" + &clicks(1)));
    let shown = |of: &str| format!("select t::text from {of} t order by 1");
    let mut known = Vec::new();
    for _ in 0..2 {
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
        let at = world.value("select clock_timestamp()::text").await;
        for view in ["actions_current", "payouts_monthly"] {
            known.push((view, at.clone(), world.query(shown(&format!("impact.{view}"))).await));
        }
        world.pass_days(6);
    }
    assert_ne!(known[1].2, known[3].2, "nothing was restated");
    for (view, at, rows) in &known {
        assert_eq!(world.query(shown(&format!("impact.{view}_as_known('{at}')"))).await, *rows, "{view} at {at}");
    }
    assert_eq!(world.value("select count(*)::text from impact.payouts_monthly_as_known('2020-01-01')").await, "0");
}

#[tokio::test]
async fn views_live_through_wider_columns_with_their_grants_and_what_people_built_on_them() {
    for history in [false, true] {
        let world = World::new().await;
        let role = format!("impact_mirror_test_analyst_{}", uuid::Uuid::new_v4().simple());
        let plain = actions(6) + &format!("history = {history}\n");
        assert_eq!(world.sync(&world.settings(&plain)).await.end, SyncEnd::Done);
        world
            .execute(&format!(
                "create role {role}; grant usage on schema impact to {role}; \
                 grant select on impact.actions_current, impact.performance_daily to {role}; \
                 create view public.mine as select account, day, sum(payout) as payout from impact.actions_current group by 1, 2"
            ))
            .await;
        let figures = "select concat_ws('|', account, day, trim_scale(sum(payout)), trim_scale(sum(sale_amount))) from impact.actions_current \
                       group by account, day order by 1";
        let before = world.query(figures).await;
        assert!(before.len() > 3, "{before:?}");
        let groups = "select string_agg(left(stxname, -8), ' ') from pg_statistic_ext where stxrelid = 'impact.actions'::regclass";
        assert_eq!(world.value(groups).await, "actions_groups_");

        let types = "[exports.actions.types]\nPayout = \"text\"\nSale_Amount = \"text\"\nMP_Id = \"text\"\n";
        let settings = world.settings(&(plain + types));
        world.request_refresh_of_all(&settings).await;
        assert_eq!(world.sync(&settings).await.end, SyncEnd::Done, "{:#?}", world.jobs().await);
        let types = "select string_agg(format_type(atttypid, null), ' ') from pg_attribute \
                     where attrelid = 'impact.actions'::regclass and attname in ('payout', 'sale_amount', 'mp_id')";
        assert_eq!(world.value(types).await, "text text text");
        assert_eq!(world.value(groups).await, "actions_groups_");
        assert_eq!(world.query(figures).await, before, "history {history}");
        let still = format!(
            "select concat_ws(' ', has_table_privilege('{role}', 'impact.actions_current', 'select'), \
                 has_table_privilege('{role}', 'impact.performance_daily', 'select'), \
                 (select sum(payout) from public.mine) = (select sum(payout) from impact.actions_current))"
        );
        assert_eq!(world.value(still).await, "t t t");
        world.execute(&format!("drop view public.mine; drop owned by {role} cascade; drop role {role}")).await;
    }
}

#[tokio::test]
async fn views_follow_exports_that_are_renamed_and_leave_alone_what_is_not_ours() {
    let world = World::new().await;
    world.execute("create schema impact; create table impact.payouts_monthly (mine text)").await;
    assert_eq!(world.sync(&world.settings(&actions(2))).await.end, SyncEnd::Done);
    let kind = "select relkind::text from pg_class where oid = 'impact.payouts_monthly'::regclass";
    assert_eq!(world.value(kind).await, "r", "somebody's own");
    let exports = "select distinct export from impact.actions_current";
    assert_eq!(world.query(exports).await, ["actions"]);

    let renamed = world.settings(&actions(2).replace("[exports.actions]", "[exports.sales]"));
    assert_eq!(world.sync(&renamed).await.end, SyncEnd::Done);
    assert_eq!(world.query(exports).await, ["sales"]);
    world.execute("drop table impact.actions").await; // nothing hangs on it any more

    // Without any export of actions the view stays, and is empty.
    assert_eq!(world.sync(&world.settings(&clicks(1))).await.end, SyncEnd::Done);
    assert_eq!(world.query(exports).await, Vec::<String>::new());
    world.execute("drop table impact.sales; drop table impact.payouts_monthly").await;
    let settings = world.settings(&(actions(2) + &clicks(1)));
    world.start(&settings).await.stop(std::time::Duration::from_secs(5)).await; // it is configured again
    world.keep_views().await;
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.query(exports).await, ["actions"]);
    assert_ne!(world.value("select count(*)::text from impact.payouts_monthly").await, "0");
}

#[tokio::test]
async fn clicks_added_up_are_those_of_the_table_whatever_happens_to_it() {
    let world = World::new().await;
    let settings = world.settings(&clicks(4));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let differing = "select concat_ws(' ', day, count) from (
        (select _day as day, count(*)::text as count from impact.clicks group by 1
         except select day, sum(clicks)::text from impact_mirror.click_day group by 1)
        union all
        (select day, sum(clicks)::text from impact_mirror.click_day group by 1
         except select _day, count(*)::text from impact.clicks group by 1)) d";
    assert_eq!(world.query(differing).await, Vec::<String>::new());
    assert_ne!(world.value("select count(*)::text from impact_mirror.click_day").await, "0");

    // By hand, nobody is told; what is read again is right again.
    world
        .execute("delete from impact.clicks where _line = 2; update impact.clicks set _row_hash = gen_random_uuid()")
        .await;
    assert_eq!(world.query(differing).await.len(), 8, "four days, either way");
    world.request_refresh_of_all(&settings).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.query(differing).await, Vec::<String>::new());

    // A version that adds nothing up has loaded beside us.
    world
        .execute("delete from impact_mirror.click_day where day = (select max(day) from impact_mirror.click_day)")
        .await;
    world.keep_views().await;
    assert_eq!(world.query(differing).await, Vec::<String>::new());

    // Another table of the same name.
    world.execute("drop table impact.clicks").await;
    world.request_refresh("clicks", days_ago(2), days_ago(2)).await;
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    assert_eq!(world.query("select distinct day::text from impact_mirror.click_day").await, [days_ago(2).to_string()]);
}

#[tokio::test]
async fn every_table_view_and_column_carries_a_comment_that_is_renewed_and_not_written_for_nothing() {
    let world = World::new().await;
    let settings = world.settings(&(actions(3) + "history = true\n" + &clicks(2) + "partition = \"month\"\n"));
    assert_eq!(world.sync(&settings).await.end, SyncEnd::Done);
    let bare = "select c.relname || coalesce('.' || a.attname, '') from pg_class c
                left join pg_inherits i on i.inhrelid = c.oid
                left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and i.inhrelid is null
                where c.relnamespace = 'impact'::regnamespace and c.relkind in ('r', 'p', 'v')
                  and (obj_description(c.oid) is null or (a.attnum is not null and col_description(c.oid, a.attnum) is null))
                order by 1";
    assert_eq!(world.query(bare).await, Vec::<String>::new());
    let comment = |column: &str| {
        format!(
            "select col_description(attrelid, attnum) from pg_attribute \
             where attrelid = 'impact.actions'::regclass and attname = '{column}'"
        )
    };
    let payout = "What the partner gets. source: Payout";
    assert_eq!(world.value(comment("payout")).await, payout);
    assert_eq!(world.value(comment("mp_id")).await, "The id of the partner. source: mp_id");
    let about = world.value("select obj_description('impact.actions'::regclass)").await;
    assert!(
        about.starts_with("Mirror of the export actions of impact.com: Action Listing (adv_action_listing_pm_only)."),
        "{about}"
    );

    world
        .execute(
            "comment on column impact.actions.payout is 'What was said once. source: Payout'; \
             comment on column impact.actions.status is 'Our own words.'",
        )
        .await;
    let written = "select md5(string_agg(concat(objoid, objsubid, xmin, description), ' ' order by objoid, objsubid)) from pg_description";
    let restart = async || {
        let engine = world.start(&settings).await;
        engine.stop(std::time::Duration::from_secs(5)).await;
        world.keep_views().await;
    };
    restart().await;
    assert_eq!(world.value(comment("payout")).await, payout);
    assert_eq!(world.value(comment("status")).await, "Our own words.");
    let before = world.value(written).await;
    restart().await;
    assert_eq!(world.value(written).await, before, "nothing had changed");
}

#[tokio::test]
async fn what_a_user_says_of_a_report_is_in_the_comments() {
    let own = "[catalogue.adv_action_listing_pm_only]\npersona = \"brand\"\nname = \"Our sales\"\n\
               says = \"One row is a sale of ours.\"\nkey = [\"Action_Id\"]\ndate_column = \"Action_Date\"\n\
               [catalogue.adv_action_listing_pm_only.columns.Payout]\nkind = \"numeric\"\nsays = \"What we owe.\"\n";
    let world = World::new().await;
    assert_eq!(world.sync(&world.settings(&(actions(1) + own))).await.end, SyncEnd::Done);
    let comments = "select obj_description('impact.actions'::regclass) || ' ' || col_description(attrelid, attnum) \
                    from pg_attribute where attrelid = 'impact.actions'::regclass and attname = 'payout'";
    let ours = "Mirror of the export actions of impact.com: Our sales (adv_action_listing_pm_only). \
                One row is a sale of ours. What we owe. source: Payout";
    assert_eq!(world.value(comments).await, ours);

    // Taken out again.
    assert_eq!(world.sync(&world.settings(&actions(1))).await.end, SyncEnd::Done);
    let built_in = world.value(comments).await;
    assert!(
        built_in.contains(": Action Listing (") && built_in.ends_with("What the partner gets. source: Payout"),
        "{built_in}"
    );
}
