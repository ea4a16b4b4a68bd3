//! The message of a failure, and its exit status.

use std::process::ExitCode;

use verger::{ChainError, LoopError, OpenError, PerformError, rusqlite};

/// The work was done and failed.
pub(crate) const WORK_FAILED: u8 = 1;

/// What was asked for cannot be done: bad usage or input.
const BAD_INPUT: u8 = 2;

/// The work was done, but what there is to say of it could not be written.
pub(crate) const OUTPUT_LOST: u8 = 3;

/// The work failed if it had begun. Everything that is refused before that is bad input.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let opening = error.is::<OpenError>();
    let failed = error.chain().any(|cause| {
        let performed = matches!(
            cause.downcast_ref(),
            Some(PerformError::Failed { .. } | PerformError::Unexpected { .. })
        );
        let stored = cause
            .downcast_ref::<rusqlite::Error>()
            .is_some_and(|error| !opening && !is_no_database(error));
        let broken = matches!(
            cause.downcast_ref(),
            Some(ChainError::Broken { .. } | ChainError::Missing { .. })
        );
        performed || stored || broken || cause.is::<LoopError>()
    });
    ExitCode::from(if failed { WORK_FAILED } else { BAD_INPUT })
}

fn is_no_database(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::CannotOpen)
    )
}

/// One sentence with its causes. A cause that an error's own text tells is not repeated.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let io = || std::io::Error::other("the disk is gone");
        let error = Err::<(), _>(io())
            .context("cannot write a: the disk is gone")
            .context("cannot pack")
            .unwrap_err();
        assert_eq!(explain(&error), "cannot pack: cannot write a: the disk is gone");
        let error = Err::<(), _>(io()).context("cannot pack").unwrap_err();
        assert_eq!(explain(&error), "cannot pack: the disk is gone");
    }
}
