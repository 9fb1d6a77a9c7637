use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::*;

/// Odd, and right: what people write.
const BY_HAND: &str = "\n[exports.sales] # ours\nreport   = 'adv_action_listing_pm_only'\naccounts=[\"brand\"]\n\n\n   since = 2026-05-01\t# \u{e9}t\u{e9}";

#[tokio::test]
async fn a_block_goes_to_the_end_and_the_rest_stays_byte_for_byte() {
    let desk = Desk::new(Options::default()).await;
    let before = desk.configure(&[Persona::Brand], BY_HAND);
    let file = desk.path("impact-mirror.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let printed = desk.done(&["reports", "add", "att_adv_performance_by_day_pm_only", "--since", "2026-06-01"]).await;
    let after = desk.config();
    let block = after.strip_prefix(&before).unwrap().strip_prefix("\n\n").unwrap();
    assert!(printed.starts_with(block), "{printed}");
    insta::assert_snapshot!(block, @r#"
    # Performance by Day (att_adv_performance_by_day_pm_only) of account brand.
    # One row is a day. It restates as the actions of the day change; media_count does not add up over days. Rows
    # are restated as the events under them change.
    [exports.performance_by_day]
    accounts = ["brand"]
    report = "att_adv_performance_by_day_pm_only"
    since = "2026-06-01"
    # date_column = "date_display"  # as the catalogue knows it
    "#);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    let left: Vec<_> = std::fs::read_dir(desk.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");

    // Once more, now with a block at the end, and then the whole is planned.
    desk.done(&["reports", "add", "clicks", "--name", "visits"]).await;
    assert!(desk.config().starts_with(&after));
    desk.done(&["check"]).await; // finds the programs
    let plan: Value = serde_json::from_str(&desk.done(&["plan", "--json"]).await).unwrap();
    for export in ["sales", "performance_by_day", "visits"] {
        assert!(plan["calls"].as_array().unwrap().iter().any(|call| call["export"] == export), "{export}: {plan}");
    }
}

#[tokio::test]
async fn a_guess_is_written_once_the_metadata_has_its_columns() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Agency], "");
    let block = desk.done(&["reports", "add", "agency_action_listing", "--name", "actions"]).await;
    assert!(
        block.contains("\nkey = [\"ActionId\"]\n") && block.contains("\ndate_column = \"ActionDate\"\n"),
        "{block}"
    );
    assert!(block.contains("# A guess"), "{block}");

    let own = "\n[catalogue.agency_action_listing]\npersona = \"agency\"\nlikely_key = [\"Nothing\"]\nlikely_date_column = \"Never\"\n";
    desk.configure(&[Persona::Agency], own);
    let block = desk.done(&["reports", "add", "agency_action_listing", "--name", "actions", "--dry-run"]).await;
    assert!(block.contains("\n# key = [\"Nothing\"]\n") && !block.contains("\nkey = "), "{block}");
    assert!(block.contains("\n# date_column = \"ActionDate\"\n"), "a column that holds dates is named: {block}");
}

#[tokio::test]
async fn nothing_is_changed_where_something_is_wrong() {
    let desk = Desk::new(Options::default()).await;
    let before = desk.configure(&[Persona::Brand, Persona::Agency], BY_HAND);
    for (arguments, said) in [
        (&["adv_acton_listing_pm_only", "--account", "brand"][..], "did you mean adv_action_listing_pm_only?"),
        (&["performance_by_day", "--account", "brand"], "did you mean att_adv_performance_by_day_pm_only?"),
        (
            &["adv_action_listing_pm_only", "--account", "brand", "--name", "sales"],
            "there is an export sales already, of adv_action_listing_pm_only",
        ),
        (
            &["adv_action_listing_pm_only", "--account", "brand", "--name", "Sales"],
            "\"Sales\" is no name for an export",
        ),
        (&["adv_action_listing_pm_only"], "name one with --account"),
        (&["clicks", "--account", "agency"], "no clicks of an agency"),
        (&["clicks", "--account", "brand", "--since", "2024-01-01"], "the new export does not go with"),
        (&["violations_listing", "--account", "brand"], "web pages alone"),
    ] {
        let output = desk.run(&[&["reports", "add"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert_eq!(desk.config(), before, "{arguments:?}");
    }
    let dry = desk.done(&["reports", "add", "clicks", "--account", "brand", "--dry-run"]).await;
    assert!(dry.contains("[exports.clicks]") && dry.contains("Nothing was changed"), "{dry}");
    assert_eq!(desk.config(), before);
}

#[tokio::test]
async fn a_file_whose_tables_are_inline_is_not_broken() {
    let desk = Desk::new(Options::default()).await;
    let exports = "\n[exports]\nsales = { accounts = [\"brand\"], report = \"adv_action_listing_pm_only\", since = \"2026-05-01\" }\n";
    let before = desk.configure(&[Persona::Brand], exports);
    desk.done(&["reports", "add", "clicks"]).await;
    assert!(desk.config().starts_with(&before));

    let text = before.replace(exports, "").replace("[database]", "exports = { }\n[database]");
    std::fs::write(desk.path("impact-mirror.toml"), &text).unwrap();
    let output = desk.run(&["reports", "add", "clicks"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was changed"), "{}", stderr(&output));
    assert_eq!(desk.config(), text);
}

#[tokio::test]
async fn a_link_to_the_file_stays_a_link() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Partner], "");
    let (link, file) = (desk.path("impact-mirror.toml"), desk.path("elsewhere.toml"));
    std::fs::rename(&link, &file).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    desk.done(&["reports", "add", "clicks"]).await;
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(read(&file).contains("[exports.clicks]"));
}
