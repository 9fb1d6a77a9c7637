use serde_json::{Value, json};

use super::*;

const EXPORT: &str =
    "\n[exports.sales]\naccounts = [\"brand\"]\nreport = \"adv_action_listing_pm_only\"\nsince = \"2026-05-01\"\n";

#[tokio::test]
async fn the_list_says_what_there_is_what_is_known_and_what_is_mirrored() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Brand], EXPORT);
    let list: Value = serde_json::from_str(&desk.done(&["reports", "list", "--json"]).await).unwrap();
    assert_eq!((&list["account"], &list["persona"]), (&json!("brand"), &json!("brand")));
    let reports = list["reports"].as_array().unwrap();
    let find = |handle: &str| reports.iter().find(|report| report["handle"] == handle).unwrap();
    assert_eq!(find("adv_action_listing_pm_only")["mirrored_by"], json!(["sales"]));
    assert_eq!(find("adv_action_listing_pm_only")["known"], true);
    assert_eq!(find("att_adv_performance_by_day_pm_only")["mirrored_by"], json!([]));
    assert_eq!((&find("clicks")["exportable"], &find("clicks")["mirrored_by"]), (&json!(true), &json!([])));
    let unexportable = reports.iter().filter(|report| report["exportable"] == false).count();
    assert_eq!((reports.len(), unexportable), (7, 3));
    assert!(reports.iter().any(|report| report["handle"].is_null()), "some have no handle");

    let text = desk.done(&["reports", "list"]).await;
    assert!(text.contains("adv_action_listing_pm_only") && text.contains("sales"), "{text}");
    assert!(text.contains("On the web pages alone: "), "{text}");
    // The calls are in the ledger: two of this command, and none of them an order.
    assert_eq!(desk.count("select count(*) from impact_mirror.charge where call = 'reports'").await, 2);
    assert_eq!(desk.calls("submit_report"), 0);
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Partner], "");
    let list: Value = serde_json::from_str(&desk.done(&["reports", "list", "--json"]).await).unwrap();
    let exportable = list["reports"].as_array().unwrap().iter().filter(|report| report["exportable"] == true).count();
    assert_eq!(exportable, 5, "four reports and clicks: {list}");
}

#[tokio::test]
async fn a_description_joins_the_metadata_with_the_catalogue() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Brand, Persona::Agency], EXPORT);
    let described = async |handle: &str, account: &str| -> Value {
        let text = desk.done(&["reports", "describe", handle, "--account", account, "--json"]).await;
        serde_json::from_str(&text).unwrap()
    };
    let listing = described("adv_action_listing_pm_only", "brand").await;
    assert_eq!(listing["key"], json!({"columns": ["Action_Id"], "standing": "known"}));
    assert_eq!(listing["date_column"]["columns"], json!(["Action_Date"]));
    assert_eq!((&listing["certainty"], &listing["changes"]), (&json!("seen"), &json!("until_locked")));
    assert_eq!(listing["mirrored_by"], json!(["sales"]));
    let columns = listing["columns"].as_array().unwrap();
    let column = |name: &str| columns.iter().find(|column| column["name"] == name).unwrap();
    assert_eq!(column("Sale_Amount")["type"], "numeric");
    assert_eq!((&column("mp_id")["type"], &column("mp_id")["in_metadata"]), (&json!("bigint"), &json!(true)));
    assert_eq!(column("hear_about_us")["in_metadata"], false);
    assert!(listing["filters"].as_array().unwrap().iter().any(|filter| filter["parameter"] == "START_DATE"));

    // What is a guess is called one, and only where the metadata has such columns.
    let agency = described("agency_action_listing", "agency").await;
    assert_eq!(agency["key"], json!({"columns": ["ActionId"], "standing": "likely"}));
    assert_eq!(agency["date_column"], json!({"columns": ["ActionDate"], "standing": "likely"}));
    assert!(agency["filters"].as_array().unwrap().iter().any(|filter| filter["parameter"] == "START_DATE"), "{agency}");

    let clicks = described("clicks", "brand").await;
    assert_eq!(clicks["columns"].as_array().unwrap().len(), 42);
    let text = desk.done(&["reports", "describe", "adv_action_listing_pm_only", "--account", "brand"]).await;
    for words in
        ["one row", "change until they are locked", "Action_Id", "START_DATE (yyyy-MM-dd)", "up to 3d old every 6h"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[tokio::test]
async fn an_entry_of_the_users_own_is_described() {
    let desk = Desk::new(Options::default()).await;
    let own = "\n[catalogue.att_adv_performance_by_day_pm_only]\npersona = \"brand\"\nsays = \"One row is my day.\"\nlikely_key = [\"DATE_SORT\", \"media_count\"]\nlikely_date_column = \"nowhere\"\n";
    desk.configure(&[Persona::Brand], own);
    let text = desk.done(&["reports", "describe", "att_adv_performance_by_day_pm_only", "--json"]).await;
    let described: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&described["own"], &described["says"]), (&json!(true), &json!("One row is my day.")));
    // As the metadata spells them.
    assert_eq!(described["key"], json!({"columns": ["date_sort", "media_count"], "standing": "likely"}));
    assert_eq!(described["date_column"], json!({"columns": ["nowhere"], "standing": "guess"}));
}

#[tokio::test]
async fn the_account_has_to_be_clear() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Brand, Persona::Partner], "");
    for (arguments, said) in [
        (&["reports", "list"][..], "several accounts are configured; name one with --account: brand, partner"),
        (&["reports", "list", "--account", "acme"], "there is no account \"acme\"; configured are: brand, partner"),
        (
            &["reports", "describe", "adv_acton_listing_pm_only", "--account", "brand"],
            "did you mean adv_action_listing_pm_only?",
        ),
        (&["reports", "describe", "violations_listing", "--account", "brand"], "on impact.com's web pages alone"),
    ] {
        let output = desk.run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn without_a_database_the_account_is_asked_all_the_same() {
    let desk = Desk::new(Options::default()).await;
    desk.configure(&[Persona::Brand], "");
    let text = desk.config().replace("\"embedded\"", "\"postgres://nobody@127.0.0.1:9/none\"");
    std::fs::write(desk.path("impact-mirror.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_impact-mirror"));
    command.args(["reports", "list"]).current_dir(desk.dir.path()).env("BRAND_TOKEN", credential(Persona::Brand).1);
    command.env_remove("IMPACT_MIRROR__DATABASE__URL").env("STATE_DIRECTORY", desk.dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("adv_action_listing_pm_only"));
    assert!((stdout(&output) + &stderr(&output)).contains("the calls are not counted"), "{}", stderr(&output));
}
