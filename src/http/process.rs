//! What the operating system says of this process. Where it does not say, the figure is missing.

use nix::sys::resource::{UsageWho, getrusage};

/// Seconds of user and system time.
pub(super) fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| {
        std::time::Duration::new(time.tv_sec().unsigned_abs(), 0).as_secs_f64()
            + std::time::Duration::from_micros(time.tv_usec().unsigned_abs()).as_secs_f64()
    };
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Bytes of memory held.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Open file descriptors.
pub(super) fn open_fds() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}
