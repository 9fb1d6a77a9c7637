//! Questions to a person at a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use nix::sys::termios::{self, LocalFlags, SetArg};

/// Whether somebody is there to answer.
pub(super) fn somebody() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Asks for a line; empty where there is none.
pub(super) fn line(question: &str) -> io::Result<String> {
    say_as_is!("{question} ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks for a line that is not shown while it is typed.
pub(super) fn secret(question: &str) -> io::Result<String> {
    let _hidden = Hidden::begin()?;
    let answer = line(question);
    say!();
    answer
}

/// The terminal without echo, until it is dropped.
struct Hidden(termios::Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin().as_fd())?;
        let mut without_echo = before.clone();
        without_echo.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSAFLUSH, &without_echo)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that went away needs no echo either.
        let _ = termios::tcsetattr(io::stdin().as_fd(), SetArg::TCSAFLUSH, &self.0);
    }
}
