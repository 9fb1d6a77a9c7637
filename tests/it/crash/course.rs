//! What leads a daemon to a place, and what a person does afterwards, if anything.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use chrono::{Days, TimeDelta, Utc};
use impact_mirror::sandbox::{Fault, FaultKind, Options, Point};
use nix::sys::signal::Signal;

use super::QUICK;
use crate::restart::{ask_again, covered};
use crate::support::daemon::{Mirrored, Process, Scene, Wishes, still};

/// Longer than any test.
const FOR_EVER: FaultKind = FaultKind::Stall(120.0);
const SECRET: &str = "0123456789abcdef-test";

/// A way of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Both exports for the first time.
    Fresh,
    /// The same, with remote jobs that are under way at the first looks.
    Slow,
    /// Both are ordered already, and their looks are due.
    Waiting,
    /// An order takes effect and its reply is lost.
    ReplyLost,
    /// A Replay takes effect, its reply is lost, and looks show the job as it was before.
    ReplayLost,
    /// An order never arrives.
    NeverArrives,
    /// A step that takes longer than a renewal of its lease.
    LongStep,
    /// SIGTERM in the middle of a step that does not end.
    ShutDown,
    /// The credential is refused once, with an order.
    Unauthorised,
    /// The same, before this process starts: it tries the account again.
    Paused,
    /// The remote job fails, and does not when it is replayed.
    RemoteFails,
    /// It fails again: its days are ordered in shorter windows.
    RemoteFailsAgain,
    /// The file is cut at a number of rows: the same.
    Cut,
    /// The file is short, which the settings refuse.
    Refused,
    /// A job was begun so often that it is given up.
    Hopeless,
    /// A loaded window is ordered once more by the command that compares it.
    Verifying,
    /// Rows have changed, in a table that keeps their versions.
    History,
    /// The result is JSON.
    Json,
    /// A postback tells of the end of a remote job that nobody would look at for long.
    Postback,
    /// Rows have changed, and are asked for again: by Replay.
    Again,
    /// The same, by the command that asks.
    Asking,
    /// The same, with new columns.
    NewColumns,
    /// The same, with a column that is to be wider.
    Wider,
    /// A Replay is held up for longer than a lease lasts before it goes out.
    OldCharge,
    /// impact.com refuses to tell of the job that is to be replayed.
    ReplayRefused,
    /// The same, and the refusal is not lost with the process.
    RefusalStands,
    /// Files go to an archive.
    Archived,
    /// The archive does not take them.
    ArchiveDown,
    /// The archive holds files that are past their time.
    ArchiveOld,
    /// Archived files are loaded again by the command, which is given again after the kill.
    Reload,
    /// The same, where nothing was left to be done.
    ReloadIsDone,
    /// A partitioned table, when the next month's partition is made.
    Partitioned,
    /// A partitioned table, when old months go.
    MonthsGo,
    /// A table, when old days go.
    DaysGo,
}

use Course::*;

impl Course {
    /// Everything up to the start of the process that will die.
    pub async fn scene(self) -> Scene {
        let scene = self.empty().await;
        let stop_before = match self {
            Again | Asking | NewColumns | Wider | OldCharge | ReplayRefused | RefusalStands | ArchiveOld | Reload
            | ReloadIsDone | Partitioned | MonthsGo | DaysGo | Verifying | History | ReplayLost => true,
            Paused => {
                scene.inject(Point::Submit, FaultKind::Http401);
                let _daemon = scene.run();
                scene.until("exists (select 1 from impact_mirror.account where paused_since is not null)").await;
                false
            }
            Waiting | Hopeless => {
                let mut daemon = scene.run();
                let wanted = if self == Waiting { 2 } else { 1 };
                scene
                    .until(&format!("(select count(*) = {wanted} from impact_mirror.job where state = 'waiting')"))
                    .await;
                daemon.signal(Signal::SIGTERM);
                daemon.ended().await;
                false
            }
            _ => false,
        };
        if stop_before {
            let _daemon = scene.run();
            scene.until_mirrored().await;
            if matches!(self, ArchiveOld | Reload | ReloadIsDone) {
                scene.until("not exists (select 1 from impact_mirror.archived_file where manifest_at is null)").await;
            }
        }
        match self {
            ReplyLost => scene.inject(Point::Submit, FaultKind::ReplyLost),
            NeverArrives => scene.inject(Point::Submit, FaultKind::Reset),
            LongStep => scene.inject(Point::Storage, FaultKind::Stall(1.5)),
            ShutDown => scene.inject(Point::Storage, FOR_EVER),
            Unauthorised => scene.inject(Point::Submit, FaultKind::Http401),
            RemoteFails => scene.inject(Point::Submit, FaultKind::JobFails),
            RemoteFailsAgain => {
                scene.inject(Point::Submit, FaultKind::JobFails);
                scene.inject(Point::Replay, FaultKind::JobFails);
            }
            Refused => scene.sandbox.inject(Fault { times: 2, ..Fault::next(Point::Storage, FaultKind::ShortFile) }),
            ReplayLost => {
                scene.sandbox.advance(TimeDelta::hours(30));
                scene.sandbox.set_behaviour("stale_reads_after_replay=2").unwrap();
                scene.inject(Point::Replay, FaultKind::ReplyLost);
            }
            Again | Asking => scene.sandbox.advance(TimeDelta::hours(30)),
            // Some of its rows have changed by then, whatever day it is.
            History => scene.sandbox.advance(TimeDelta::days(20)),
            Hopeless => {
                // A run that is under way would be followed, and not ordered again.
                tokio::time::sleep(60 * QUICK).await;
                scene.execute("update impact_mirror.job set attempts = 12").await;
            }
            NewColumns => {
                scene.sandbox.advance(TimeDelta::hours(30));
                scene.sandbox.set_behaviour("columns=extra").unwrap();
            }
            Wider => {
                scene.sandbox.advance(TimeDelta::hours(30));
                scene.edit_config(|text| format!("{}\ntypes = {{ mp_id = \"numeric\" }}\n", text.trim_end()));
            }
            OldCharge => {
                scene.sandbox.advance(TimeDelta::hours(30));
                scene.inject(Point::Poll, FaultKind::Stall(2.5));
            }
            ReplayRefused | RefusalStands => {
                scene.sandbox.advance(TimeDelta::hours(30));
                scene.inject(Point::Poll, FaultKind::Http403);
            }
            ArchiveOld => {
                let aged = "update impact_mirror.archived_file set used_at = used_at - interval '181 days'";
                scene.execute(aged).await;
            }
            MonthsGo | DaysGo => self.let_days_go(&scene).await,
            Fresh | Slow | Waiting | Paused | Cut | Postback | Archived | ArchiveDown | Reload | ReloadIsDone
            | Partitioned | Verifying | Json => {}
        }
        scene
    }

    async fn empty(self) -> Scene {
        let mut options = still(if matches!(self, Slow | Waiting | Hopeless) { 50 * QUICK } else { QUICK });
        if self == Cut {
            options = Options { actions_per_day: 45, ..options };
            options.behaviours.set("max_rows=100").unwrap();
        }
        let both = [Mirrored::Actions, Mirrored::Clicks];
        let exports = match self {
            Fresh | Slow | Waiting | Again | NewColumns | Archived => &both[..],
            _ => &both[..1],
        };
        let scene = Scene::with(options, Wishes { exports, ..Wishes::default() }).await;
        let dir = scene.dir.path();
        match self {
            Archived | ArchiveDown | ArchiveOld | Reload | ReloadIsDone => {
                let url = format!("file://{}", dir.join("archive").display());
                scene.edit_config(|text| format!("{text}[archive]\nurl = \"{url}\"\n"));
            }
            Cut => scene.edit_config(|text| format!("{}\nmax_rows = 100\n", text.trim_end())),
            Refused => scene.edit_config(|text| format!("{}\non_count_mismatch = \"refuse\"\n", text.trim_end())),
            History => scene.edit_config(|text| format!("{}\nhistory = true\n", text.trim_end())),
            Json => scene.edit_config(|text| format!("{}\nresult_format = \"json\"\n", text.trim_end())),
            Partitioned => scene.edit_config(|text| format!("{}\npartition = \"month\"\n", text.trim_end())),
            MonthsGo => scene.edit_config(|text| format!("{}\npartition = \"month\"\n", since(&text, 100))),
            DaysGo => scene.edit_config(|text| format!("{}\n", since(&text, 20))),
            Postback => {
                let file = dir.join("secret");
                std::fs::write(&file, SECRET).unwrap();
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
                let secret = format!("[http]\npostback_secret = {{ file = \"{}\" }}\n", file.display());
                scene.edit_config(|text| {
                    text.replace("[http]\n", &secret).replace(
                        "poll_min = \"100ms\"\npoll_max = \"200ms\"",
                        "poll_min = \"10min\"\npoll_max = \"1h\"",
                    )
                });
            }
            _ => {}
        }
        if self == ArchiveDown {
            std::fs::create_dir(dir.join("archive")).unwrap();
            std::fs::write(in_the_way(&scene), "").unwrap();
        }
        scene
    }

    /// Sets how long rows are kept and lets the day pass in which nothing is dropped after that.
    async fn let_days_go(self, scene: &Scene) {
        let keep = if self == MonthsGo { "40d" } else { "10d" };
        scene.edit_config(|text| format!("{}\nkeep = \"{keep}\"\nrefresh = []\n", text.trim_end()));
        let daemon = scene.run();
        daemon.until_says("running").await;
        scene.execute("update impact_mirror.export set keep_changed_at = keep_changed_at - interval '25 hours'").await;
    }

    /// The command of the process that will die.
    pub async fn command(self, scene: &Scene) -> Vec<String> {
        let words: &[&str] = match self {
            Asking => {
                let (from, to) = covered(scene, "actions").await;
                return ["refresh", "actions", "--from", &from, "--to", &to].map(str::to_owned).to_vec();
            }
            Reload | ReloadIsDone => &ALL_DAYS,
            Verifying => &VERIFY,
            _ => &["run"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What happens from outside once it runs.
    pub async fn provoke(self, scene: &Scene, process: &Process) {
        match self {
            Again | NewColumns | Wider | OldCharge | ReplayRefused | RefusalStands | History | ReplayLost => {
                ask_again(scene).await;
            }
            ShutDown => {
                scene.until_spooled(1).await;
                process.signal(Signal::SIGTERM);
            }
            Postback => post_back(scene, process).await,
            _ => {}
        }
    }

    /// What a person, or impact.com, does after the kill so that all comes to its end.
    pub async fn help(self, scene: &Scene, next: &Process) {
        match self {
            Refused | Hopeless => {
                let failed = "select id::text from impact_mirror.job where state = 'failed'";
                scene.until_job("state = 'failed'").await;
                let id: String = scene.value(failed).await;
                run(scene, &["jobs", "retry", &id]).await;
            }
            Postback => post_back(scene, next).await,
            Asking => {
                let is_written = "select exists (select 1 from impact_mirror.manual_request)
                                      or exists (select 1 from impact_mirror.job where reason = 'manual')";
                if !scene.value::<bool>(is_written).await {
                    ask_again(scene).await;
                }
            }
            Reload => run(scene, &ALL_DAYS).await,
            Verifying => {
                let is_planned = "select exists (select 1 from impact_mirror.job where compares)";
                if !scene.value::<bool>(is_planned).await {
                    run(scene, &VERIFY).await;
                }
            }
            ArchiveDown => {
                scene.until("(select count(*) = 1 from impact_mirror.load)").await;
                std::fs::remove_file(in_the_way(scene)).unwrap();
            }
            _ => {}
        }
    }

    /// Whether only a process that starts goes on with it.
    pub fn wants_a_start(self) -> bool {
        matches!(self, Unauthorised | Paused)
    }

    /// Whether it is about a single process.
    pub fn is_lonely(self) -> bool {
        matches!(self, ShutDown)
    }

    /// How many orders it takes from here, each window once.
    pub fn orders(self) -> usize {
        match self {
            // What is wanted is there already.
            Waiting | ArchiveOld | Reload | ReloadIsDone | Partitioned | MonthsGo | DaysGo => 0,
            // Both exports; or the one, and the Replay that its failure or refusal calls for; or the one and what came of it
            // before: nothing arrived, the credential was refused. Or a new submission for a Replay that was refused, which is
            // answered with the old run, so that this is replayed.
            Fresh | Slow | Again | NewColumns | Archived | RemoteFails | Refused | NeverArrives | Unauthorised
            | RefusalStands => 2,
            // The whole window, and then both parts of it.
            Cut => 3,
            // The whole window, its Replay, and then both parts of it.
            RemoteFailsAgain => 4,
            ReplyLost | LongStep | ShutDown | Paused | Postback | Asking | Wider | OldCharge | ReplayRefused
            | ArchiveDown | Hopeless | Verifying | History | Json | ReplayLost => 1,
        }
    }

    /// How many loads it takes from here.
    pub fn loads(self) -> usize {
        match self {
            ArchiveOld | Partitioned | MonthsGo | DaysGo | Verifying => 0,
            Fresh | Slow | Waiting | Again | NewColumns | Archived | Cut | RemoteFailsAgain => 2,
            ReplyLost | NeverArrives | LongStep | ShutDown | Unauthorised | Paused | RemoteFails | Refused
            | Postback | Asking | Wider | OldCharge | ReplayRefused | RefusalStands | ArchiveDown | Reload
            | ReloadIsDone | Hopeless | History | Json | ReplayLost => 1,
        }
    }

    /// What holds when it is done, besides what holds always.
    pub fn is_done(self) -> &'static str {
        match self {
            Partitioned => "(select count(*) >= 2 from pg_inherits where inhparent = 'impact.actions'::regclass)",
            MonthsGo => "(select min(_day) >= date_trunc('month', now() - interval '42 days') from impact.actions)",
            Verifying => "(select count(*) = 1 and min(verdict) = 'equal' from impact_mirror.comparison)",
            History => "(select count(*) > 0 from impact.actions_history)",
            DaysGo => "(select min(_day) >= now() - interval '12 days' from impact.actions)",
            Wider => {
                "(select atttypid = 'numeric'::regtype from pg_attribute \
                  where attrelid = 'impact.actions'::regclass and attname = 'mp_id')"
            }
            ArchiveOld => "(select bool_and(removed_at is not null) from impact_mirror.archived_file)",
            Archived | ArchiveDown => "(select bool_and(manifest_at is not null) from impact_mirror.archived_file)",
            _ => "true",
        }
    }
}

const VERIFY: [&str; 4] = ["verify", "actions", "--calls", "1"];
const ALL_DAYS: [&str; 6] = ["reload", "actions", "--from", "2000-01-01", "--to", "2100-01-01"];

/// A file where the archive wants a directory.
fn in_the_way(scene: &Scene) -> PathBuf {
    scene.dir.path().join("archive/acme")
}

/// The configuration with an export that begins so many days ago.
fn since(text: &str, days: u64) -> String {
    let (before, rest) = text.trim_end().split_once("since = \"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}since = \"{}\"{after}", Utc::now().date_naive() - Days::new(days))
}

/// impact.com's postback about the remote job, once that is done.
async fn post_back(scene: &Scene, process: &Process) {
    scene.until_job("state <> 'planned' and state <> 'submitting'").await;
    tokio::time::sleep(2 * QUICK).await;
    let id: String = scene.value("select remote_job_id from impact_mirror.job order by id desc limit 1").await;
    let url = format!("{}postback/{SECRET}?JobId={id}", process.url().await);
    // The process may die over it.
    let _ = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await;
}

/// Runs a command to its end.
async fn run(scene: &Scene, command: &[&str]) {
    let mut process = scene.start(command);
    assert_eq!(process.exit_code().await, Some(0), "{}", process.log());
}
