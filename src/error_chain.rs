//! Prints an error with its causes on one line, for logs and for `job.error_message`.

use std::error::Error;
use std::fmt;

/// `Display` of an error followed by each cause: `outer: middle: root`. A cause whose words the error before it ends with
/// already, as those of some libraries do, is not repeated.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let words = error.to_string();
            if !said.ends_with(&words) {
                write!(f, ": {words}")?;
                said = words;
            }
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

    #[derive(Debug, thiserror::Error)]
    #[error("library: {0}")]
    struct Repeats(#[source] std::num::ParseIntError);

    #[test]
    fn a_cause_that_was_said_already_is_left_out() {
        let cause = "x".parse::<i32>().expect_err("not a number");
        assert_eq!(Chain(&Repeats(cause)).to_string(), "library: invalid digit found in string");
    }
}
