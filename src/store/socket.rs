//! Sends what is written to Postgres at once, and notices a server that has gone without a word.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on: a small COPY is then sent in two pieces, of which the second waits for the server to
//! acknowledge the first, which takes it 40 ms. And it waits for answers without end: where the server's machine has died or its
//! address has moved, nobody says so, and the connection is held for hours. sqlx lends nobody its sockets, so that they are looked
//! for among all that the process has open.

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};

/// The open files of this process, on every Unix.
const OPEN_FILES: &str = "/dev/fd";

/// After so many seconds without a word the other side is asked whether it is there, and so often.
#[cfg(target_os = "linux")]
const ASK_AFTER_SECONDS: u32 = 5;
/// A connection whose other side has acknowledged nothing for so long is over: less than the usual lease.
#[cfg(target_os = "linux")]
const SILENCE_MILLISECONDS: u32 = 20_000;

/// Turns Nagle's algorithm off and probes on for all TCP connections of the process; who else has one wants the same. Says for
/// how many.
pub(super) fn set_for_all() -> usize {
    let Ok(open) = fs::read_dir(OPEN_FILES) else { return 0 };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| set(*number)).count()
}

/// `false` where the file is no TCP connection, or is closed meanwhile.
#[expect(unsafe_code, reason = "a number is all that we have of the file")]
fn set(number: RawFd) -> bool {
    // SAFETY: the borrow lasts for one system call that neither closes the file nor reads or writes it. Where another thread has
    // closed it, the call fails, or hits a newer TCP connection that gets the same setting anyway.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    let is_tcp = setsockopt(&file, sockopt::TcpNoDelay, &true).is_ok();
    if is_tcp {
        notice_silence(file);
    }
    is_tcp
}

/// What cannot be set is left as it is: the connection works without.
#[cfg(target_os = "linux")]
fn notice_silence(file: BorrowedFd<'_>) {
    let _ = setsockopt(&file, sockopt::KeepAlive, &true);
    let _ = setsockopt(&file, sockopt::TcpKeepIdle, &ASK_AFTER_SECONDS);
    let _ = setsockopt(&file, sockopt::TcpKeepInterval, &ASK_AFTER_SECONDS);
    let _ = setsockopt(&file, sockopt::TcpUserTimeout, &SILENCE_MILLISECONDS);
}

#[cfg(not(target_os = "linux"))]
fn notice_silence(file: BorrowedFd<'_>) {
    let _ = setsockopt(&file, sockopt::KeepAlive, &true);
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn an_open_connection_sends_at_once_from_then_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!connection.nodelay().unwrap());
        assert!(set_for_all() >= 1);
        assert!(connection.nodelay().unwrap());
    }
}
