//! Error messages for running out of file descriptors.

use std::io;

use rustix::process::{Resource, getrlimit};

/// Returns a message for EMFILE and ENFILE that names the limit; `None` for any other error.
pub(crate) fn none_left(error: &io::Error) -> Option<String> {
    match error.raw_os_error()? {
        libc::EMFILE => {
            let limit = getrlimit(Resource::Nofile).current;
            let limit = limit.map_or_else(|| "unlimited".into(), |limit| limit.to_string());
            Some(format!(
                "no file descriptor is left (EMFILE): RLIMIT_NOFILE is {limit} (ulimit -n)"
            ))
        }
        libc::ENFILE => Some("the system has no file descriptor left (ENFILE, fs.file-max)".into()),
        _ => None,
    }
}

/// Returns the same message as the end of a sentence that says which step failed; empty for any
/// other error.
pub(crate) fn hint(error: &io::Error) -> String {
    none_left(error).map_or_else(String::new, |words| format!(", {words}"))
}
