//! Finds the Postgres programs of this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Error;

/// The oldest Postgres that the mirror's schema works with.
const OLDEST_MAJOR: u32 = 14;

/// One directory with `initdb`, `postgres` and `pg_ctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    directory: PathBuf,
    /// As in `17`.
    pub(super) major: u32,
    /// As in `17.5`.
    pub(super) version: String,
}

impl Programs {
    /// The programs for a cluster in `data`: of the version that made it, or the first at hand for a new one.
    pub(super) async fn find(data: &Path) -> Result<Self, Error> {
        let found = Self::all().await;
        let wanted = fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|major| major.trim().parse().ok());
        Self::choose(found, wanted, data)
    }

    fn choose(found: Vec<Self>, wanted: Option<u32>, data: &Path) -> Result<Self, Error> {
        if found.is_empty() {
            return Err(Error::NoPrograms);
        }
        let versions = found.iter().map(|programs| programs.version.as_str()).collect::<Vec<_>>().join(", ");
        let fits = |programs: &Self| match wanted {
            Some(major) => programs.major == major,
            None => programs.major >= OLDEST_MAJOR,
        };
        found.into_iter().find(fits).ok_or(match wanted {
            Some(major) => Error::WrongMajor { data: data.to_owned(), major, found: versions },
            None => Error::TooOld { found: versions },
        })
    }

    async fn all() -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for directory in candidates().await {
            if all.iter().all(|known| known.directory != directory)
                && let Some(programs) = Self::in_directory(directory).await
            {
                all.push(programs);
            }
        }
        all
    }

    async fn in_directory(directory: PathBuf) -> Option<Self> {
        if !holds_programs(&directory) {
            return None;
        }
        let said = output_of(&directory.join("postgres"), "--version").await?;
        let version = version_in(&said)?;
        let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(Self { directory, major, version })
    }

    /// The path of the program `name`.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn holds_programs(directory: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|name| directory.join(name).is_file())
}

/// The places to look at, best first: what the user put on the path, then where systems keep them, newest first.
async fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&path).filter(|place| holds_programs(place)).collect();
    for place in &mut places {
        // A link on the path leads to the directory that holds the rest of that version.
        if let Ok(program) = fs::canonicalize(place.join("postgres"))
            && let Some(parent) = program.parent()
            && holds_programs(parent)
        {
            parent.clone_into(place);
        }
    }
    if let Some(bindir) = output_of(Path::new("pg_config"), "--bindir").await {
        places.push(PathBuf::from(bindir.trim()));
    }
    places.extend(newest_first("/usr/lib/postgresql", "", "bin"));
    places.push(PathBuf::from("/usr/local/pgsql/bin"));
    places.extend(newest_first("/usr", "pgsql-", "bin"));
    places.extend(newest_first("/usr/libexec", "postgresql", ""));
    for prefix in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        places.extend(newest_first(prefix, "postgresql@", "bin"));
        places.push(Path::new(prefix).join("postgresql/bin"));
    }
    places
}

/// `{parent}/{prefix}{major}/{below}` for every major there is, the newest first.
fn newest_first(parent: &str, prefix: &str, below: &str) -> Vec<PathBuf> {
    let mut majors: Vec<u32> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(prefix)?.parse().ok())
        .collect();
    majors.sort_unstable_by(|a, b| b.cmp(a));
    majors.into_iter().map(|major| Path::new(parent).join(format!("{prefix}{major}")).join(below)).collect()
}

async fn output_of(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).current_dir("/").output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `15.18` from `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn version_in(said: &str) -> Option<String> {
    said.split("(PostgreSQL)").nth(1)?.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(major: u32) -> Programs {
        Programs { directory: PathBuf::from(format!("/opt/{major}")), major, version: format!("{major}.1") }
    }

    #[test]
    fn the_version_is_read_from_what_packagers_make_of_it() {
        assert_eq!(version_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(), Some("15.18"));
        assert_eq!(version_in("postgres (PostgreSQL) 18beta1\n").as_deref(), Some("18beta1"));
    }

    #[test]
    fn a_cluster_is_served_by_the_version_that_made_it() {
        let found = vec![programs(18), programs(15)];
        assert_eq!(Programs::choose(found.clone(), Some(15), Path::new("/d")).unwrap(), programs(15));
        assert_eq!(Programs::choose(found, None, Path::new("/d")).unwrap(), programs(18));
    }

    #[test]
    fn a_version_that_is_gone_is_named_with_its_package() {
        let error = Programs::choose(vec![programs(18)], Some(15), Path::new("/d")).unwrap_err().to_string();
        assert!(error.contains("made by Postgres 15") && error.contains("found: 18.1"), "{error}");
        assert!(error.contains("apt install postgresql-15"), "{error}");
    }

    #[test]
    fn a_machine_without_programs_is_told_what_to_install() {
        let error = Programs::choose(Vec::new(), None, Path::new("/d")).unwrap_err().to_string();
        for mend in ["apt install postgresql", "dnf install postgresql-server", "apk add postgresql", "brew install"] {
            assert!(error.contains(mend), "{error}");
        }
    }

    #[test]
    fn a_version_that_is_too_old_is_refused() {
        let error = Programs::choose(vec![programs(13)], None, Path::new("/d")).unwrap_err();
        assert!(matches!(error, Error::TooOld { found } if found == "13.1"));
    }
}
