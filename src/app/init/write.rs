//! The text of the file: sections in the order in which people read them, with what was found in comments.

use std::fmt::Write as _;

use chrono_tz::Tz;

use super::super::reports::block::Block;
use super::super::toml_text::{quoted, remark};
use super::discover::Found;
use super::{TokenPlace, Wishes};
use crate::account::Persona;

/// What an account is called that has nothing to be called after.
pub(super) const NAMELESS: &str = "main";

/// The least that a configuration says of the database.
pub(super) const DATABASE: &str = "[database]\nurl = \"embedded\"\n\n";

const HEAD: &str = "\
# Configuration of impact-mirror, written by `impact-mirror init` from what the account says of itself.
#
# docs/configuration.md and `impact-mirror init --output -` (without credentials) explain every setting. Each can be set by an environment
# variable instead, levels parted by two underscores: IMPACT_MIRROR__DATABASE__URL. `impact-mirror check` tries everything,
# `impact-mirror plan` shows what will be asked and what it costs, and `impact-mirror reports list` what else the account has.

# \"embedded\" is a private Postgres of the daemon's own, run with the Postgres programs of this machine; nothing to set up.
# Any other Postgres from 14 on: \"postgres://user@host:5432/database\".
";

/// Programs that a comment names.
const NAMED: usize = 12;

/// The file.
pub(super) fn file(wishes: &Wishes, found: &Found, remarks: &[String], blocks: &[Block]) -> String {
    let account = &found.account;
    let mut text = HEAD.to_owned() + DATABASE;
    let company = if found.company.name.is_empty() { "The account" } else { found.company.name.as_str() };
    let currency = found.company.currency.as_ref().map_or_else(String::new, |code| format!(" Amounts are in {code}."));
    text += &remark(&format!("{company}, as impact.com calls it: a {}.{currency}", account.persona));
    text += &remark(&programs(found));
    text += &account_lines(account.name.as_str(), wishes, account.persona, account.time_zone);
    text += "# programs = \"all\"\n";
    text += "\n# What the account may ask for: impact.com's published limits. Set share below 1 where other tools use the account.\n";
    let _ = writeln!(text, "[accounts.{}.quota]", account.name);
    text += "# report_export_per_day = 100\n# click_export_per_day = 10\n# requests_per_hour = 1000\n# share = 1.0\n";
    for words in remarks {
        text += "\n";
        text += &remark(words);
    }
    for block in blocks {
        text += "\n";
        text += &block.to_string();
    }
    text
}

fn programs(found: &Found) -> String {
    let what = if found.account.persona == Persona::Agency { "brands" } else { "programs" };
    let named = found.programs.iter().take(NAMED).map(|program| format!("{} {}", program.id, program.name));
    let more = if found.programs.len() > NAMED { ", …" } else { "" };
    match found.programs.len() {
        0 => format!("It lists no {what}."),
        count => format!(
            "It has {count} {what}: {}{more}. New ones are taken in as they appear.",
            named.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// `[accounts.NAME]`, without comments.
pub(super) fn account_lines(name: &str, wishes: &Wishes, persona: Persona, zone: Tz) -> String {
    let token = match &wishes.auth_token {
        TokenPlace::Env(variable) => format!("{{ env = {} }}", quoted(variable)),
        TokenPlace::File(path) => format!("{{ file = {} }}", quoted(&path.display().to_string())),
    };
    let base_url = wishes.base_url.as_ref().map_or_else(String::new, |url| format!("base_url = {}\n", quoted(url)));
    format!(
        "[accounts.{}]\npersona = \"{persona}\"\naccount_sid = {}\nauth_token = {token}\n{base_url}time_zone = \"{}\"\n",
        key(name),
        quoted(&wishes.account_sid),
        zone.name()
    )
}

/// A key of TOML, bare where it can be: what is no name for an account is told by the check, not by a broken file.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// A name for the account of a company.
pub(super) fn account_name(company: &str) -> String {
    let mut name = String::new();
    for c in company.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() >= 40 {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_called_after_its_company() {
        for (company, name) in [
            ("Acme, Inc.", "acme-inc"),
            ("  Söhne & Töchter", "s-hne-t-chter"),
            ("", "main"),
            ("日本", "main"),
            ("A very long name of a company that goes on and on", "a-very-long-name-of-a-company-that-goes"),
        ] {
            assert_eq!(account_name(company), name, "{company}");
        }
    }
}
