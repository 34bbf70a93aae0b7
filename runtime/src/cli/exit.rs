//! Exit codes of the command.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; the pod or the command succeeded |
//! | 1 | an error, told on standard error |
//! | 2 | the command line is wrong |
//! | 125 | the pod failed and no container has an exit code that says why |
//! | 126 | the command may not be executed |
//! | 127 | there is no such command |
//! | 130 | interrupted |
//! | other | `run`: the code of the first container that failed; `exec`: the command's own |

use beluga_proto::FaultCode;

/// The table above, for `--help`.
pub const TABLE: &str = "\
Exit codes:
  0      done; the pod or the command succeeded
  1      an error, told on standard error
  2      the command line is wrong
  125    run: the pod failed, and no container's exit code says why
  126    the command may not be executed
  127    there is no such command
  130    interrupted
  other  run: the code of the first container that failed; exec: the command's own";

/// Done.
pub const OK: u8 = 0;

/// An error.
pub const ERROR: u8 = 1;

/// The pod failed, and not by a container's exit code.
pub const POD_FAILED: u8 = 125;

/// The code of a container whose command may not be executed, as shells have it.
pub const NOT_EXECUTABLE: i32 = 126;

/// The code of a container whose command is not there, as shells have it.
pub const NOT_FOUND: i32 = 127;

/// Ended by the user.
pub const INTERRUPTED: u8 = 130;

/// The exit code of a process in a pod; what no exit code can be is an error.
pub fn of_process(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(ERROR)
}

/// The exit code of a request that a pod refused.
pub fn of_fault(code: FaultCode) -> u8 {
    match code {
        FaultCode::CommandNotExecutable => 126,
        FaultCode::CommandNotFound => 127,
        FaultCode::InvalidArgument
        | FaultCode::NotFound
        | FaultCode::AlreadyExists
        | FaultCode::FailedPrecondition
        | FaultCode::ResourceExhausted
        | FaultCode::Unsupported
        | FaultCode::DeadlineExceeded
        | FaultCode::Unavailable
        | FaultCode::PermissionDenied
        | FaultCode::UserNotFound
        | FaultCode::RunsAsRoot
        | FaultCode::BadWorkingDirectory
        | FaultCode::Protocol
        | FaultCode::Internal => ERROR,
    }
}
