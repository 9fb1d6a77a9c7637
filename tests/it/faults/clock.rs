//! The wall clock of the daemon's machine is set forward and back while it works.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Stage, tell};
use crate::support::state_dir::StateDir;

/// The daemon's wall clock with so many seconds added as a file says; how long things take is measured by another clock.
const SHIFTED_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("CLOCK_SHIFT");
    if (failed || clock != CLOCK_REALTIME || !path) return (int)failed;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    close(file);
    return 0;
}
"#;

const HOUR: i64 = 60 * 60;

/// `None`: this machine has no C compiler, or no preloading of libraries.
fn build(dir: &Path) -> Option<String> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, SHIFTED_CLOCK).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).output();
    (cfg!(target_os = "linux") && built.is_ok_and(|output| output.status.success()))
        .then(|| library.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_clock_that_is_set_forward_and_back_loses_and_doubles_nothing() {
    let dir = StateDir::new();
    let Some(library) = build(dir.path()) else {
        eprintln!("there is no C compiler here to build the shifted clock of this test");
        return;
    };
    let shift = dir.path().join("shift");
    let set = |seconds: i64| {
        // Never seen half written.
        let next = shift.with_extension("next");
        std::fs::write(&next, seconds.to_string()).unwrap();
        std::fs::rename(&next, &shift).unwrap();
    };
    set(0);
    let env = vec![("LD_PRELOAD", library), ("CLOCK_SHIFT", shift.to_str().unwrap().to_owned())];
    let stage = Stage::with(env).await;
    let mut took: Vec<Duration> = Vec::new();
    for (loads, seconds) in (6..).step_by(2).zip([2 * HOUR, -2 * HOUR, 0, 3 * 24 * HOUR, 0]) {
        stage.ask().await;
        stage.scene.until_job("state = 'waiting'").await;
        set(seconds);
        let began = Instant::now();
        stage.until_loaded(loads).await;
        took.push(began.elapsed());
        stage.assert_recovered(&format!("the clock {seconds} s off"), loads).await;
    }
    tell("steps of the daemon's clock", &took);
}
