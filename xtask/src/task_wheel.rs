//! Builds the Python wheel, and tests it in an environment of its own.

use std::path::{Path, PathBuf};

use crate::run::program_with;

/// The folder of the environment and of the wheels.
const FOLDER: &str = "target/wheel";

/// The options of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install the wheel into a new environment and run its tests, of the program and of its types
    #[arg(long)]
    test: bool,
    /// Build without optimisation, which is faster
    #[arg(long)]
    debug: bool,
}

/// An environment of Python.
struct Environment(PathBuf);

impl Environment {
    /// Makes an environment, or uses the one that is there.
    fn new(name: &str) -> Result<Environment, String> {
        let folder = Path::new(FOLDER).join(name);
        if !folder.join("bin/python").exists() {
            let folder = folder.to_string_lossy();
            program_with("python3", "python3", &["-m", "venv", &folder], &[])?;
        }
        Ok(Environment(folder))
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let path = self.0.join("bin").join(program);
        program_with(program, &path.to_string_lossy(), args, &[])
    }

    fn install(&self, args: &[&str]) -> Result<(), String> {
        self.run(
            "python",
            &[&["-m", "pip", "install", "--quiet"], args].concat(),
        )
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let tools = Environment::new("tools")?;
    tools.install(&["maturin>=1.9,<2"])?;
    let wheels = format!("{FOLDER}/{}", if options.debug { "debug" } else { "dist" });
    let manifest = ["--manifest-path", "crates/rb-python/Cargo.toml"];
    let profile = ["--profile", if options.debug { "dev" } else { "dist" }];
    let build = [
        &["build", "--quiet", "--out", &wheels],
        &manifest[..],
        &profile,
    ]
    .concat();
    tools.run("maturin", &build)?;
    let wheel = wheel(Path::new(&wheels))?;
    eprintln!("{wheel}");
    if !options.test {
        return Ok(());
    }
    let tested = Environment::new("tested")?;
    tested.install(&["pytest>=8,<10", "mypy>=2,<3"])?;
    tested.install(&["--force-reinstall", "--no-deps", &wheel])?;
    tested.run("python", &["-m", "pytest", "-q", "crates/rb-python/tests"])?;
    let strict = [
        "-m",
        "mypy",
        "--strict",
        "--ignore-missing-imports",
        "--cache-dir",
        "target/wheel/mypy",
    ];
    tested.run(
        "python",
        &[&strict[..], &["crates/rb-python/python/raw_block"]].concat(),
    )?;
    // The stub against the module itself.
    tested.run("python", &["-m", "mypy.stubtest", "raw_block._native"])
}

/// The only wheel of a folder.
fn wheel(folder: &Path) -> Result<String, String> {
    let files = std::fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let wheels: Vec<PathBuf> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .collect();
    match &wheels[..] {
        [wheel] => Ok(wheel.to_string_lossy().into_owned()),
        _ => Err(format!(
            "{}: {} wheels instead of one",
            folder.display(),
            wheels.len()
        )),
    }
}
