//! The program `rb`. Everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    rb_cli::run(std::env::args_os())
}
