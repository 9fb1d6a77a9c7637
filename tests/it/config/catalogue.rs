//! Entries of the user's own in the catalogue.

use impact_mirror::column::ColumnKind;
use impact_mirror::config::EXAMPLE;
use impact_mirror::export::ExportName;

use super::{ACTIONS, BASE, check, problems};

/// An entry of the user's own, and an export of its report.
fn with_entry(lines: &str) -> String {
    let export = "[exports.stores]\naccounts = [\"acme\"]\nreport = \"stores\"\nsince = \"2026-01-01\"\n";
    format!("{BASE}{export}\n[catalogue.stores]\n{lines}\n")
}

#[test]
fn an_entry_of_the_users_own_is_used_like_a_built_in_one() {
    let lines = r#"
        persona = "brand"
        key = ["Store", "Day"]
        date_column = "Day"
        refresh = [{ age = "10d", every = "1d" }]
        params = { SHOW_DATE = ["1"] }
        max_rows = 7
        columns = { Store = { kind = "text", says = "The number of the store." }, Day = { says = "The day." } }
    "#;
    let settings = check(&with_entry(lines)).unwrap();
    let export = &settings.exports[&ExportName::new("stores")];
    assert_eq!(
        (&export.key[..], export.date_column.as_deref()),
        (&["Store".to_owned(), "Day".to_owned()][..], Some("Day"))
    );
    assert_eq!((export.refresh.len(), export.max_rows), (1, Some(7)));
    assert_eq!(export.params["SHOW_DATE"], ["1"]);
    assert_eq!(export.types, [("Store".to_owned(), ColumnKind::Text)].into());

    let nothing =
        check(&with_entry("persona = \"brand\"\nlikely_key = [\"Store\"]\nlikely_date_column = \"Day\"")).unwrap();
    let export = &nothing.exports[&ExportName::new("stores")];
    assert!(export.key.is_empty() && export.date_column.is_none(), "a guess is used by nobody");

    let of_another = check(&with_entry("persona = \"partner\"\nkey = [\"Store\"]")).unwrap();
    assert!(of_another.exports[&ExportName::new("stores")].key.is_empty(), "an entry is for its persona");
}

#[test]
fn an_entry_of_the_users_own_stands_in_the_place_of_the_built_in_one() {
    let entry = "[catalogue.adv_action_listing_pm_only]\npersona = \"brand\"\nkey = [\"OID\"]\nrefresh = []\n";
    let settings = check(&format!("{BASE}{ACTIONS}{entry}")).unwrap();
    let actions = &settings.exports[&ExportName::new("actions")];
    assert_eq!((&actions.key[..], &actions.date_column), (&["OID".to_owned()][..], &None));
    assert!(actions.refresh.is_empty() && actions.params.is_empty() && actions.types.is_empty());
    let own = "[exports.actions]\naccounts = [\"acme\"]\nreport = \"adv_action_listing_pm_only\"\nsince = \"2026-01-01\"\nkey = [\"Action_Id\"]\n";
    let settings = check(&format!("{BASE}{own}{entry}")).unwrap();
    assert_eq!(settings.exports[&ExportName::new("actions")].key, ["Action_Id"], "the export itself has the last word");
}

#[test]
fn a_mistake_in_an_entry_of_the_users_own_names_the_key() {
    let brand = "persona = \"brand\"\n";
    for (lines, said) in [
        ("key = [\"A\"]".to_owned(), "catalogue.stores"),
        (format!("{brand}kee = [\"A\"]"), "kee"),
        (format!("{brand}columns = {{ A = {{ kind = \"money\" }} }}"), "catalogue.stores.columns.A.kind"),
        (format!("{brand}columns = {{ A = {{ sais = \"x\" }} }}"), "sais"),
        (format!("{brand}refresh = [{{ age = \"soon\", every = \"1d\" }}]"), "catalogue.stores.refresh"),
        (
            format!("{brand}refresh = [{{ age = \"9d\", every = \"1d\" }}, {{ age = \"3d\", every = \"1d\" }}]"),
            "catalogue.stores.refresh must have the youngest age first",
        ),
        (
            format!("{brand}key = [\"A\"]\nlikely_key = [\"B\"]"),
            "catalogue.stores.likely_key and `key` exclude each other",
        ),
        (format!("{brand}certainty = \"surely\""), "catalogue.stores.certainty"),
        ("persona = \"agent\"".to_owned(), "catalogue.stores.persona"),
    ] {
        let problems = problems(&with_entry(&lines));
        assert!(
            problems.len() == 1 && problems[0].starts_with("catalogue.stores") && problems[0].contains(said),
            "{lines}: {problems:?}"
        );
    }
    let problems = problems(&format!("{BASE}{ACTIONS}[catalogue.\"a b\"]\npersona = \"brand\"\n"));
    assert!(problems[0].contains("is no handle"), "{problems:?}");
}

#[test]
fn the_entry_of_the_example_is_one() {
    let (_, own) = EXAMPLE.split_once("# [catalogue.my_custom_report]\n").unwrap();
    let guesses = |line: &&str| !line.starts_with("likely_");
    let lines =
        own.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains(" = ")).filter(guesses);
    let text = format!("{BASE}{ACTIONS}[catalogue.my_custom_report]\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    let settings = check(&text).unwrap();
    assert_eq!(settings.catalogue["my_custom_report"].key, ["Store", "Day"]);
}
