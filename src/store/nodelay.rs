//! Sends what is written to Postgres at once.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on, which later versions turn off again; then this file goes. A small COPY
//! is then sent in two pieces, of which the second waits for the server to acknowledge the first, which takes it 40 ms. sqlx lends
//! nobody its sockets, so that they are looked for among all that the process has open.

use std::fs;
use std::os::fd::{BorrowedFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};

/// The open files of this process, on every Unix.
const OPEN_FILES: &str = "/dev/fd";

/// Turns Nagle's algorithm off for all TCP connections of the process; who else has one wants the same. Says for how many.
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
    setsockopt(&file, sockopt::TcpNoDelay, &true).is_ok()
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
