//! Every place once alone, with a process started after the kill, and once with another replica that goes on.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use impact_mirror::failpoint;
use nix::sys::signal::Signal;

use super::places::{CASES, Case};
use super::{Figures, assert_done_once, assert_paid};
use crate::floors::files;
use crate::support::daemon::{Scene, eventually};

/// Kills under way at once; most of their time is waiting for leases.
const AT_ONCE: usize = 4;

/// Who else is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    /// Nobody, until a process is started after the kill.
    Nobody,
    /// A replica, which may be the one that dies.
    Replica,
}

/// Has one process killed, and sees that nothing comes of it.
async fn survive(case: Case, company: Company) -> Figures {
    let Case { place, nth, course } = case;
    let mut scene = course.scene().await;
    let command = course.command(&scene).await;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let (orders, loads) = (scene.orders(), loads(&scene).await);
    let once = scene.dir.path().join("died");
    scene.env = vec![
        ("IMPACT_MIRROR_FAILPOINT", format!("{place}:{nth}")),
        ("IMPACT_MIRROR_FAILPOINT_ONCE", once.display().to_string()),
    ];
    let mut processes = vec![scene.start(&command)];
    if company == Company::Replica {
        processes.push(scene.run());
    }
    scene.env.clear();
    course.provoke(&scene, &processes[0]).await;
    let mut dead = None;
    eventually(&format!("a process gets to {place}"), async || {
        dead = processes.iter_mut().position(|process| {
            process.try_ended().is_some_and(|status| status.signal() == Some(Signal::SIGKILL as i32))
        });
        dead.is_some()
    })
    .await;
    assert!(once.exists(), "it died by itself");
    let died_at = Instant::now();
    let dead = processes.remove(dead.unwrap());
    if processes.is_empty() || course.wants_a_start() {
        processes.push(scene.run());
    }
    course.help(&scene, &processes[0]).await;
    let wanted = loads + i64::try_from(course.loads()).unwrap();
    scene.until(&format!("(select count(*) >= {wanted} from impact_mirror.load)")).await;
    scene.until_mirrored().await;
    let recovery = (course.loads() > 0).then(|| died_at.elapsed());
    // Whoever died is started again, as it would be anywhere; its directory is swept.
    let again = scene.run();
    again.until_says("running; stop").await;
    scene.until(course.is_done()).await;
    eventually("the spool is swept", async || scene.spooled() == 0).await;
    drop(dead);

    let rows = scene.assert_mirrored().await;
    assert_eq!(scene.orders() - orders, course.orders(), "orders");
    assert_eq!(self::loads(&scene).await, wanted, "loads");
    assert_paid(&scene).await;
    assert_done_once(&scene).await;
    Figures { kills: 1, orders: course.orders(), rows, recoveries: recovery.into_iter().collect() }
}

async fn loads(scene: &Scene) -> i64 {
    let loads: Result<i64, _> =
        sqlx::query_scalar("select count(*) from impact_mirror.load").fetch_one(scene.pool()).await;
    loads.unwrap_or(0) // no migration yet
}

/// Has a process killed at each of these places; fails in the end where one of them was not survived. Each has a thread of
/// its own, as tests have: dropping a database blocks it.
fn survive_all(what: &str, cases: impl Iterator<Item = (Case, Company)> + Send) {
    let chosen = std::env::var("CRASH_AT").ok();
    let cases = Mutex::new(cases.filter(|(case, _)| chosen.as_ref().is_none_or(|place| case.place == place)));
    let figures = Mutex::new(Figures::default());
    let failed = Mutex::new(Vec::new());
    let next = || cases.lock().unwrap().next();
    let work = || {
        while let Some((case, company)) = next() {
            let ended = std::panic::catch_unwind(|| {
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(survive(case, company))
            });
            match ended {
                Ok(one) => {
                    eprintln!("survived: {case:?}, {company:?}, {:?}", one.recoveries);
                    figures.lock().unwrap().add(one);
                }
                Err(_said) => {
                    eprintln!("not survived: {case:?}, {company:?}");
                    failed.lock().unwrap().push((case, company));
                }
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "not survived: {failed:#?}");
    figures.into_inner().unwrap().print(what);
}

#[test]
fn every_place_has_a_case() {
    let missing: Vec<_> =
        failpoint::ALL.iter().filter(|place| !CASES.iter().any(|case| case.place == **place)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Commits that have no place behind them, by file, and why nobody needs to die there.
const UNNAMED: &[(&str, usize, &str)] = &[
    ("app/alerts.rs", 1, "what is told is worked out anew each time from how things stand"),
    ("cli/publish.rs", 1, "a command whose last word it is; called again, it does the rest"),
    ("scheduler/planner.rs", 1, "a pass that planned something has `plan-committed` a few lines on"),
    ("store/configured.rs", 1, "its caller has `configuration-committed`"),
    ("store/quiet.rs", 1, "a charge whose call is not made: as at `charge-committed`"),
    ("store/quota.rs", 3, "dates moved, charges taken back and pruned are so again next time"),
    ("store/status.rs", 2, "a command whose last word it is"),
    ("worker/compare.rs", 1, "somebody else's result: the order is given up, as at `settle-committed`"),
    ("worker/load.rs", 1, "somebody else's result: ordered anew, as at `reorder-written`"),
    ("worker/submit.rs", 1, "an order that did not go out, back as at `settle-committed`"),
];

#[test]
fn every_commit_has_a_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut unnamed = BTreeMap::new();
    for (_, path) in files(&root) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let commits = (0..lines.len()).filter(|at| lines[*at].contains(".commit()"));
        let lacking = commits
            .filter(|at| !lines[*at..(at + 4).min(lines.len())].iter().any(|line| line.contains("failpoint::reach(")))
            .count();
        if lacking > 0 {
            unnamed.insert(path.strip_prefix(&root).unwrap().display().to_string(), lacking);
        }
    }
    let known = UNNAMED.iter().map(|(path, count, _)| ((*path).to_owned(), *count));
    assert_eq!(unnamed, known.collect());
}

#[test]
#[ignore = "takes minutes; make test-crash"]
fn a_kill_at_any_place_loses_nothing_and_doubles_nothing() {
    let alone = CASES.iter().map(|case| (*case, Company::Nobody));
    let beside = CASES.iter().filter(|case| case.allows_a_replica()).map(|case| (*case, Company::Replica));
    survive_all("crash matrix", alone.chain(beside));
}

/// A spread of the same: every fifth place, alone and with a replica in turn.
#[test]
fn a_kill_at_some_places_loses_nothing_and_doubles_nothing() {
    let companies = [Company::Nobody, Company::Replica];
    let some = CASES.iter().filter(|case| case.allows_a_replica()).step_by(5);
    survive_all("crash matrix, short", some.copied().zip(companies.into_iter().cycle()));
}
