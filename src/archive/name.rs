//! Where a file lies in the archive: account, export, program and days, then the job that fetched it.

use crate::account::AccountName;
use crate::export::{ExportName, ExportRequest, ResultFormat};

/// The folder of requests that are not narrowed to a program.
const ALL_PROGRAMS: &str = "all-programs";

/// The key of a result file, under `archive.url`. A job that fetched two different files has two keys.
pub fn file_key(
    account: &AccountName,
    export: &ExportName,
    request: &ExportRequest,
    job_id: i64,
    sha256: &[u8; 32],
) -> String {
    let ExportRequest { program, window, format, .. } = request;
    let program = if program.is_none() { ALL_PROGRAMS.to_owned() } else { plain(program.as_str()) };
    let [a, b, c, d, ..] = sha256;
    format!(
        "{}/{export}/{program}/{}_{}/job-{job_id}-{a:02x}{b:02x}{c:02x}{d:02x}.{}.zst",
        plain(account.as_str()),
        window.from(),
        window.to(),
        format.as_str(),
    )
}

/// The key of the manifest beside a file.
pub fn manifest_key(file_key: &str) -> String {
    let whole = file_key.strip_suffix(".zst").unwrap_or(file_key);
    let formats = [ResultFormat::Csv, ResultFormat::Json];
    let bare = formats.iter().find_map(|format| whole.strip_suffix(format.as_str())?.strip_suffix('.'));
    format!("{}.json", bare.unwrap_or(whole))
}

/// A name that every store takes as it is; a program's id comes from outside.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{Program, Source, Window};

    #[test]
    fn a_file_is_found_by_account_export_program_and_days() {
        let day = |text: &str| text.parse().expect("a day");
        let window = Window::new(day("2026-05-01"), day("2026-05-31")).expect("in order");
        let key = |program, format| {
            let request = ExportRequest { source: Source::Clicks, program, window, params: [].into(), format };
            file_key(&AccountName::new("acme"), &ExportName::new("actions"), &request, 7, &[0xab; 32])
        };
        let folder = "acme/actions/1000/2026-05-01_2026-05-31/job-7-abababab";
        for (format, ending) in [(ResultFormat::Csv, "csv.zst"), (ResultFormat::Json, "json.zst")] {
            let file = key(Program::new("1000"), format);
            assert_eq!(file, format!("{folder}.{ending}"));
            assert_eq!(manifest_key(&file), format!("{folder}.json"));
        }
        let csv = |program| key(program, ResultFormat::Csv);
        assert!(csv(Program::none()).starts_with("acme/actions/all-programs/"));
        assert!(csv(Program::new("../a/b")).starts_with("acme/actions/___a_b/"), "no way out of the archive");
    }
}
