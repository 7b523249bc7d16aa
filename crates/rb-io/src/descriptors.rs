//! What to say where the system gives no file descriptor.

use std::io;

use rustix::process::{Resource, getrlimit};

/// Words for EMFILE and ENFILE, with the limit that was met; none for any other error.
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

/// The same, as the end of a sentence that says what failed; empty for any other error.
pub(crate) fn hint(error: &io::Error) -> String {
    none_left(error).map_or_else(String::new, |words| format!(", {words}"))
}
