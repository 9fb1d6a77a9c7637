//! Turns the header of a file into column names that are safe, readable and stay the same from file to file.

use std::collections::BTreeSet;

/// The columns every mirrored table has, besides those of the file.
pub(super) const LINEAGE: [&str; 8] =
    ["_account", "_program", "_day", "_row_hash", "_load_id", "_line", "_first_seen_at", "_changed_at"];

/// Names that Postgres keeps for itself in every table.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// The longest identifier of Postgres, in bytes.
pub(super) const MAX_IDENTIFIER: usize = 63;

/// One column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The name as the file has it, numbered where the file has it more than once.
    pub source: String,
    /// The name of its column in the mirrored table.
    pub name: String,
    /// Whether the mirrored table knows it already.
    pub known: bool,
}

/// What a source name is found by: accounts differ in letter case.
pub(super) fn folded(source: &str) -> String {
    source.to_lowercase()
}

/// Gives every source name its column: the known one, or a new name that clashes with none.
///
/// `known` holds (source name, column name) of the mirrored table; `taken` the names of all its columns.
pub(super) fn name_columns(sources: &[String], known: &[(String, String)], mut taken: BTreeSet<String>) -> Vec<Header> {
    taken.extend(known.iter().map(|(_, name)| name.clone()));
    let mut seen = BTreeSet::new();
    let mut headers = Vec::with_capacity(sources.len());
    for (index, source) in sources.iter().enumerate() {
        let source =
            numbered(source, |candidate| !seen.contains(&folded(candidate)), |source, n| format!("{source} ({n})"));
        seen.insert(folded(&source));
        let standing = known.iter().find(|(other, _)| folded(other) == folded(&source));
        let name = match standing {
            Some((_, name)) => name.clone(),
            None => numbered(
                &column_name(&sources[index], index + 1),
                |candidate| !taken.contains(candidate) && !SYSTEM_COLUMNS.contains(&candidate),
                |name, n| {
                    let suffix = format!("_{n}");
                    format!("{}{suffix}", cut(name, MAX_IDENTIFIER - suffix.len()))
                },
            ),
        };
        taken.insert(name.clone());
        headers.push(Header { source, name, known: standing.is_some() });
    }
    headers
}

/// The snake_case form of a source name; `column_N` where nothing of it can be used.
pub(super) fn column_name(source: &str, number: usize) -> String {
    let mut name = String::new();
    let mut before = None;
    let mut rest = source.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter.is_alphanumeric() {
            let word_begins = letter.is_uppercase()
                && before.is_some_and(|before: char| {
                    before.is_lowercase()
                        || before.is_numeric()
                        || (before.is_uppercase() && rest.peek().is_some_and(|next| next.is_lowercase()))
                });
            if word_begins {
                separate(&mut name);
            }
            name.extend(letter.to_lowercase());
        } else {
            separate(&mut name);
        }
        before = Some(letter);
    }
    let name = name.trim_matches('_');
    if name.is_empty() {
        return format!("column_{number}");
    }
    let name = if name.starts_with(char::is_alphabetic) { name.to_owned() } else { format!("c_{name}") };
    cut(&name, MAX_IDENTIFIER).trim_end_matches('_').to_owned()
}

fn separate(name: &mut String) {
    if !name.is_empty() && !name.ends_with('_') {
        name.push('_');
    }
}

fn cut(name: &str, max_bytes: usize) -> &str {
    &name[..name.floor_char_boundary(max_bytes)]
}

/// The first of `base`, `base` 2, `base` 3 … that is free.
fn numbered(base: &str, is_free: impl Fn(&str) -> bool, with_number: impl Fn(&str, usize) -> String) -> String {
    if is_free(base) {
        return base.to_owned();
    }
    let mut number = 2;
    loop {
        let candidate = with_number(base, number);
        if is_free(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(sources: &[&str], known: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = sources.iter().map(|&source| source.to_owned()).collect();
        let known: Vec<_> = known.iter().map(|&(source, name)| (source.to_owned(), name.to_owned())).collect();
        name_columns(&sources, &known, BTreeSet::new()).into_iter().map(|header| header.name).collect()
    }

    #[test]
    fn names_become_snake_case() {
        for (source, name) in [
            ("Action_Date", "action_date"),
            ("ProgramId", "program_id"),
            ("Sale_zzzAmount", "sale_zzz_amount"),
            ("CPC_Cost", "cpc_cost"),
            ("MPID", "mpid"),
            ("SubId1", "sub_id1"),
            ("OID", "oid"),
            ("AT_Id", "at_id"),
            ("PartnerID", "partner_id"),
            ("CPCBid", "cpc_bid"),
            ("InvoiceAmountExTax", "invoice_amount_ex_tax"),
            ("locking_date", "locking_date"),
            ("pubsubid1_", "pubsubid1"),
            ("Größe", "größe"),
        ] {
            assert_eq!(column_name(source, 1), name, "{source}");
        }
    }

    #[test]
    fn hostile_names_become_harmless() {
        for (source, name) in [
            ("", "column_7"),
            ("   ", "column_7"),
            ("🙂", "column_7"),
            ("_account", "account"),
            ("__load_id", "load_id"),
            ("2nd item", "c_2nd_item"),
            ("x\"; drop table y; --", "x_drop_table_y"),
            ("a'b", "a_b"),
        ] {
            assert_eq!(column_name(source, 7), name, "{source}");
        }
        let long = column_name(&"é".repeat(100), 1);
        assert!(long.len() <= MAX_IDENTIFIER && long.starts_with('é'), "{long}");
    }

    #[test]
    fn clashing_names_are_numbered() {
        assert_eq!(
            named(&["Sale Amount", "Sale_Amount", "SaleAmount"], &[]),
            ["sale_amount", "sale_amount_2", "sale_amount_3"]
        );
        let long = "a".repeat(80);
        let names = named(&[&long, &format!("{long}b")], &[]);
        assert!(names[1].ends_with("_2") && names[1].len() == MAX_IDENTIFIER);
    }

    #[test]
    fn a_name_twice_in_a_file_is_two_columns_in_every_file() {
        assert_eq!(named(&["Date", "date"], &[]), ["date", "date_2"]);
        let known = [("Date", "date"), ("date (2)", "date_2")];
        assert_eq!(named(&["DATE", "Other", "Date"], &known), ["date", "other", "date_2"]);
    }

    #[test]
    fn known_columns_keep_their_names() {
        assert_eq!(
            named(&["sale_amount", "SALE AMOUNT"], &[("Sale Amount", "sale_amount")]),
            ["sale_amount_2", "sale_amount"]
        );
    }

    #[test]
    fn names_of_postgres_are_left_alone() {
        assert_eq!(named(&["xmin", "ctid"], &[]), ["xmin_2", "ctid_2"]);
    }
}
