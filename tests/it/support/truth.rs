//! Compares mirrored tables with the sandbox's truth, row by row, with Postgres reading the CSV: nothing of the loader
//! takes part.

use std::fmt::Write as _;

use chrono::NaiveDate;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::daemon::{BRAND, Mirrored, Scene};

impl Scene {
    /// Every cell is loaded, nothing is open or held, every window was loaded whole, and the tables hold the truth. Says
    /// how many rows were compared.
    pub async fn assert_mirrored(&self) -> u64 {
        let mut conn = self.pool().acquire().await.unwrap();
        let stuck: Vec<(String, String)> = sqlx::query_as(
            "select export, state from impact_mirror.coverage where state not in ('loaded', 'settled')
             union all
             select export, state from impact_mirror.job where finished_at is null or lease_token is not null",
        )
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        assert_eq!(stuck, [], "cells or jobs that are not at their end");
        let mut rows = 0;
        for export in &self.exports {
            rows += self.assert_table(&mut conn, *export).await;
        }
        assert_eq!(self.spooled(), 0, "files left in the spool");
        rows
    }

    async fn assert_table(&self, conn: &mut PgConnection, export: Mirrored) -> u64 {
        let windows: Vec<(String, NaiveDate, NaiveDate)> = sqlx::query_as(
            "select program, min(day), max(day) from impact_mirror.coverage where export = $1 group by program",
        )
        .bind(export.name())
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        let mut truths = Vec::new();
        for (program, from, to) in windows {
            truths.push(self.truth(conn, export, &program, from, to).await);
        }
        let names = std::str::from_utf8(&truths[0]).unwrap().lines().next().unwrap();
        let columns: Vec<(String, String, String)> = sqlx::query_as(
            "select source_name, column_name, kind from impact_mirror.mirrored_column where export = $1",
        )
        .bind(export.name())
        .fetch_all(&mut *conn)
        .await
        .unwrap();

        let (mut raw, mut theirs, mut ours) = (String::new(), String::new(), String::new());
        for (index, name) in names.split(',').enumerate() {
            let mirrored = columns.iter().find(|(source, _, _)| source == name);
            let (_, column, kind) = mirrored.unwrap_or_else(|| panic!("{name} of {} is not mirrored", export.name()));
            let comma = if index == 0 { "" } else { ", " };
            write!(raw, "{comma}c{index} text").unwrap();
            if kind == "text" {
                write!(theirs, "{comma}nullif(c{index}, '')").unwrap();
            } else {
                write!(theirs, "{comma}nullif(nullif(nullif(nullif(c{index}, ''), 'n/a'), 'NA'), 'null')::{kind}")
                    .unwrap();
            }
            write!(ours, "{comma}\"{column}\"").unwrap();
        }
        let mut tx = conn.begin().await.unwrap();
        // A time without an offset is in the account's zone.
        let create =
            format!("set local timezone to 'America/New_York'; create temp table truth ({raw}) on commit drop");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *tx).await.unwrap();
        let mut expected = 0;
        for truth in &truths {
            let mut copy = tx.copy_in_raw("copy truth from stdin (format csv, header true)").await.unwrap();
            copy.send(truth.as_slice()).await.unwrap();
            expected += copy.finish().await.unwrap();
        }
        assert!(expected > 10, "{} has {expected} rows only", export.name());
        let table = format!("impact.{}", export.name());
        let differences: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "select (select count(*) from (select {theirs} from truth except all select {ours} from {table}) missing)
                  + (select count(*) from (select {ours} from {table} except all select {theirs} from truth) surplus)"
        )))
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!((count, differences), (i64::try_from(expected).unwrap(), 0), "rows of {table} and how many differ");
        tx.rollback().await.unwrap();
        expected
    }

    /// The truth for what was asked: the parameters are those of the export's request.
    async fn truth(
        &self,
        conn: &mut PgConnection,
        export: Mirrored,
        program: &str,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Vec<u8> {
        let params: Value =
            sqlx::query_scalar("select request -> 'params' from impact_mirror.job where export = $1 limit 1")
                .bind(export.name())
                .fetch_one(conn)
                .await
                .unwrap();
        let params: Vec<(String, String)> = params
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(name, values)| {
                values.as_array().into_iter().flatten().map(|value| (name.clone(), value.as_str().unwrap().to_owned()))
            })
            .collect();
        let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.sandbox.truth(BRAND, export.report(), program, from, to, &params)
    }
}
