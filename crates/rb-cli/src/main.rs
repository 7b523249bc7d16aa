//! The program `rb`. The library holds its code.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    rb_cli::run(std::env::args_os())
}
