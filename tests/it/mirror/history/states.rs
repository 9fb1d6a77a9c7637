//! The table as it was known at any time, after loads in any order.

use std::fmt::Write as _;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// Keys that stand twice at a time.
async fn doubled(mirror: &Mirror) -> Vec<String> {
    mirror
        .query(
            "select concat_ws(' ', a.id, a._valid_from, a._valid_to, b._valid_from, b._valid_to) \
             from impact.actions_versions a join impact.actions_versions b \
             on a._account = b._account and a.id = b.id and (a._load_id, a._line) < (b._load_id, b._line) \
             and a._valid_from < coalesce(b._valid_to, 'infinity') and b._valid_from < coalesce(a._valid_to, 'infinity')",
        )
        .await
}

#[tokio::test]
async fn a_clock_that_goes_back_doubles_no_key_and_loses_no_version() {
    let mut mirror = keyed().await;
    let (april, may) = (Window::day(day("2026-04-30")), Window::day(day("2026-05-01")));
    let mut versions = 0;
    for (window, text, back) in [
        (may, "Id,Day,A\n1,2026-05-01,1\n2,2026-05-01,1\n", 0),
        (may, "Id,Day,A\n1,2026-05-01,2\n", 3),
        (april, "Id,Day,A\n2,2026-04-30,1\n", 5),
        (april, "Id,Day,A\n1,2026-04-30,1\n", 0),
        (april, "Id,Day,A\n1,2026-04-30,2\n", 9),
        (may, "", 2),
        (may, "Id,Day,A\n2,2026-05-01,9\n1,2026-05-01,9\n", 7),
    ] {
        mirror.now -= TimeDelta::hours(back);
        mirror.window = window;
        let report = mirror.load(text).await;
        versions += report.rows_inserted + report.rows_updated;
    }
    assert_eq!(doubled(&mirror).await, Vec::<String>::new());
    assert_eq!(mirror.query("select count(*)::text from impact.actions_versions").await, [versions.to_string()]);
}

#[tokio::test]
async fn loads_at_the_same_time_of_one_key_lose_no_version() {
    let mut mirror = keyed().await;
    mirror.window = Window::day(day("2026-04-01"));
    mirror.load("Id,Day,A\n0,2026-04-01,1\n").await;
    let mut versions = 1;
    for round in 1..=12_u32 {
        let at = |program: &str, date: &str| {
            let mut one = mirror.beside(Program::new(program));
            one.window = Window::day(day(date));
            one.now -= TimeDelta::hours(i64::from(round % 3));
            one
        };
        let (mut one, mut other) = (at("1000", "2026-05-01"), at("2000", "2026-06-01"));
        let (first, second) = (
            format!("Id,Day,A\n1,2026-05-01,{round}\n2,2026-05-01,1\n{round}1,2026-05-01,1\n"),
            format!("Id,Day,A\n1,2026-06-01,{round}\n2,2026-06-01,1\n{round}1,2026-06-01,1\n"),
        );
        let (one, other) = tokio::join!(one.load(first), other.load(second));
        versions += one.rows_inserted + one.rows_updated + other.rows_inserted + other.rows_updated;
        mirror.now += TimeDelta::hours(1);
    }
    assert_eq!(doubled(&mirror).await, Vec::<String>::new());
    assert_eq!(mirror.query("select count(*)::text from impact.actions_versions").await, [versions.to_string()]);
}

#[tokio::test]
async fn a_key_that_is_copied_into_a_new_window_while_another_load_merges_it_loses_no_version() {
    let mut mirror = keyed().await;
    mirror.window = Window::day(day("2026-05-01"));
    mirror.load("Id,Day,A\n0,2026-05-01,1\n").await;
    let mut versions = 1;
    for round in 1..=15_u64 {
        let (mut one, mut other) = (mirror.beside(Program::new("1000")), mirror.beside(Program::new("2000")));
        let date = day("2026-06-01") + chrono::Days::new(round);
        other.window = Window::day(date);
        let first = format!("Id,Day,A\n0,2026-05-01,1\n{round},2026-05-01,1\n");
        let second = format!("Id,Day,A\n{round},{date},2\n");
        let (one, other) = tokio::join!(one.load(first), other.load(second));
        versions += one.rows_inserted + one.rows_updated + other.rows_inserted + other.rows_updated;
        mirror.now += TimeDelta::hours(1);
    }
    assert_eq!(doubled(&mirror).await, Vec::<String>::new());
    assert_eq!(mirror.query("select count(*)::text from impact.actions_versions").await, [versions.to_string()]);
}

/// One load of a random sequence.
#[derive(Debug, Clone)]
struct Step {
    account: &'static str,
    program: &'static str,
    window: (&'static str, &'static str),
    /// None for no bytes; id, day, amount, note.
    rows: Option<Vec<(u32, &'static str, &'static str, &'static str)>>,
    has_notes: bool,
    reloads_all: bool,
    repeats: bool,
}

fn steps(reloads: bool) -> impl Strategy<Value = Vec<Step>> {
    const DAYS: [&str; 4] = ["2026-04-29", "2026-04-30", "2026-05-01", "2026-05-02"];
    let row = (
        0_u32..9,
        select(&DAYS[..]),
        prop_oneof![8 => select(&["1", "2", "3"][..]), 2 => Just("2.5"), 1 => Just(""), 1 => Just("x")],
        select(&["", "", "a", "b"][..]),
    );
    let window = (0_usize..4, 0_usize..4).prop_map(|(one, other)| (DAYS[one.min(other)], DAYS[one.max(other)]));
    let rows = prop_oneof![9 => prop::collection::vec(row, 0..12).prop_map(Some), 1 => Just(None)];
    let account = prop_oneof![4 => Just("acme"), 1 => Just("other")];
    let program = prop_oneof![4 => Just("1000"), 1 => Just("2000")];
    let step = (
        account,
        program,
        window,
        rows,
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
    )
        .prop_map(move |(account, program, window, rows, has_notes, reloads_all, repeats)| Step {
            account,
            program,
            window,
            rows,
            has_notes,
            reloads_all: reloads_all && reloads,
            repeats,
        });
    prop::collection::vec(step, 14)
}

fn file(step: &Step) -> String {
    let Some(rows) = &step.rows else { return String::new() };
    let mut file = format!("Id,Day,Amount{}\n", if step.has_notes { ",Note" } else { "" });
    for (id, day, amount, note) in rows {
        let note = if step.has_notes { format!(",{note}") } else { String::new() };
        writeln!(file, "{id},{day},{amount}{note}").unwrap();
    }
    file
}

/// After each of random loads the table is remembered; at the end each of these states is what was known then.
async fn every_state_is_known(is_keyed: bool, partition: Partition, reloads: bool) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..6 {
        let mut mirror = Mirror { history: true, partition, ..Mirror::unkeyed().await };
        mirror.date_column = Some("Day".to_owned());
        mirror.configured.insert("Id".to_owned(), ColumnKind::Bigint);
        if is_keyed {
            mirror.key = vec!["Id".to_owned()];
        }
        let but: &[&str] = if reloads { &["_load_id", "_line", "_row_hash"] } else { &[] };
        let mut states = Vec::new();
        let sequence = steps(reloads).new_tree(&mut runner).unwrap().current();
        let (mut last, mut versions) = (String::new(), 0);
        for step in &sequence {
            if !step.repeats || last.is_empty() {
                mirror.account = AccountName::new(step.account);
                mirror.program = Program::new(step.program);
                mirror.window = Window::new(day(step.window.0), day(step.window.1)).unwrap();
                last = file(step);
            }
            mirror.reloads_all = step.reloads_all;
            let report = mirror.load(&last).await;
            versions += report.rows_inserted + report.rows_updated;
            if mirror.query("select to_regclass('impact.actions')::text").await != ["NULL"] {
                states.push((mirror.now, contents(&mirror, "impact.actions", but).await));
            }
        }
        for (index, (at, state)) in states.iter().enumerate() {
            assert_eq!(as_known(&mirror, *at, but).await, *state, "state {index} of {sequence:#?}");
            let later = *at + TimeDelta::minutes(59);
            assert_eq!(as_known(&mirror, later, but).await, *state, "after state {index} of {sequence:#?}");
        }
        assert_eq!(mirror.query("select count(*)::text from impact.actions_versions").await, [versions.to_string()]);
        assert!(states.iter().any(|(_, state)| !state.is_empty()));
    }
}

#[tokio::test]
async fn every_state_is_known_with_a_key() {
    every_state_is_known(true, Partition::None, false).await;
}

#[tokio::test]
async fn every_state_is_known_with_a_key_by_month() {
    every_state_is_known(true, Partition::Month, false).await;
}

#[tokio::test]
async fn every_state_is_known_without_a_key() {
    every_state_is_known(false, Partition::None, false).await;
}

#[tokio::test]
async fn every_state_is_known_without_a_key_by_month() {
    every_state_is_known(false, Partition::Month, false).await;
}

#[tokio::test]
async fn every_state_is_known_where_files_are_loaded_again() {
    every_state_is_known(true, Partition::None, true).await;
    every_state_is_known(false, Partition::Month, true).await;
}
