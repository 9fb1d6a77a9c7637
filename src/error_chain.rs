//! Prints an error with its causes on one line, for logs and for `job.error_message`.

use std::error::Error;
use std::fmt;

/// `Display` of an error followed by each cause: `outer: middle: root`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn every_cause_is_named_once() {
        let cause = "x".parse::<i32>().expect_err("not a number");
        assert_eq!(Chain(&Outer(cause)).to_string(), "outer: invalid digit found in string");
    }
}
