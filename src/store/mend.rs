//! What a person does about a failure of our Postgres.

use std::error::Error as _;

use super::Error;

/// After a failure of our Postgres.
pub fn of(error: &Error) -> Option<String> {
    let words = match error {
        Error::Connect(source) => of_statement(source).unwrap_or(
            "start the server that database.url names, or correct database.url; `impact-mirror check` tries it",
        ),
        Error::Statement { source, .. } => of_statement(source).unwrap_or(
            "look whether the server that database.url names is up, and try again; `impact-mirror check` tries it",
        ),
        Error::Migrate(source) => of_statement(source.source()?.downcast_ref()?)?,
        Error::BadUrl { .. }
        | Error::NewerDatabase { .. }
        | Error::OtherMigration { .. }
        | Error::MayNotMigrate { .. }
        | Error::LeaseLost { .. }
        | Error::Corrupt { .. } => return None,
    };
    Some(words.to_owned())
}

/// After what Postgres answered, by the class of its code.
pub fn of_statement(error: &sqlx::Error) -> Option<&'static str> {
    let code = error.as_database_error()?.code()?;
    Some(match code.as_ref() {
        "42501" => "give the user of database.url the rights of deploy/sql/roles.sql",
        "3D000" => "make that database (`createdb`), or correct database.url",
        "25006" => "let database.url name a primary, and a user that may write: what answers is read-only",
        "55P03" => "end who holds the table (pg_stat_activity shows it), or try again",
        "53100" => "free room on Postgres's disk; work goes on by itself then",
        "53300" => "end other connections, or raise max_connections of Postgres",
        code if code.starts_with("28") => "correct the user or password in database.url, or pg_hba.conf of Postgres",
        _ => "see the log of Postgres, and try again; `impact-mirror check` tries the database",
    })
}
