//! The statements that publish mirrored tables to logical replication.

use super::{identifier, literal};

/// A table by schema and name.
fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// Makes the publication of some tables. What is written to partitions is told as of their table, which subscribers may partition as
/// they like.
pub(in crate::mirror) fn create(publication: &str, schema: &str, tables: &[String]) -> String {
    let tables: Vec<_> = tables.iter().map(|table| qualified(schema, table)).collect();
    let of = if tables.is_empty() { String::new() } else { format!(" for table {}", tables.join(", ")) };
    format!("create publication {}{of} with (publish_via_partition_root = true)", identifier(publication))
}

/// Marks a publication as one that the mirror keeps in step.
pub(in crate::mirror) fn mark(publication: &str, comment: &str) -> String {
    format!("comment on publication {} is {}", identifier(publication), literal(comment))
}

pub(in crate::mirror) fn add(publication: &str, schema: &str, table: &str) -> String {
    format!("alter publication {} add table {}", identifier(publication), qualified(schema, table))
}

pub(in crate::mirror) fn drop(publication: &str) -> String {
    format!("drop publication {}", identifier(publication))
}

/// What tells a subscriber which row was changed: the columns of an index, or the whole row.
pub(in crate::mirror) fn identity(schema: &str, table: &str, index: Option<&str>) -> String {
    let by = index.map_or_else(|| "full".to_owned(), |index| format!("using index {}", identifier(index)));
    format!("alter table {} replica identity {by}", qualified(schema, table))
}

pub(in crate::mirror) fn default_identity(schema: &str, table: &str) -> String {
    format!("alter table {} replica identity default", qualified(schema, table))
}
