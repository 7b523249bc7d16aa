//! Writes the man pages and shell completions of `rb`: `cargo run -p rb-cli --example pages -- FOLDER`.
//!
//! An example, so that the program does not contain the generators: they are dependencies of the tests only. `cargo xtask
//! dist` runs it.

mod pages;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder")?;
    for (name, text) in pages::all()? {
        let path = Path::new(&folder).join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(())
}
