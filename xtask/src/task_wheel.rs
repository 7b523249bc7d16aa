//! Builds the Python wheel, and tests it in an environment of its own.

use std::path::{Path, PathBuf};

use crate::run::program_with;

/// The folder of the environment and of the wheels.
const FOLDER: &str = "target/wheel";

const MANIFEST: &str = "crates/rb-python/Cargo.toml";

/// The options of the task.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install the wheel into a new environment and run its tests, of the program and of its types
    #[arg(long)]
    test: bool,
    /// Build without optimisation, which is faster
    #[arg(long)]
    debug: bool,
    /// Pack the sources, too
    #[arg(long)]
    sdist: bool,
}

/// An environment of Python.
pub(crate) struct Environment(PathBuf);

impl Environment {
    /// Makes an environment in the folder, or uses the one that is there.
    pub(crate) fn new(folder: &Path) -> Result<Environment, String> {
        if !folder.join("bin/python").exists() {
            let folder = folder.to_string_lossy();
            program_with("python3", "python3", &["-m", "venv", &folder], &[])?;
        }
        Ok(Environment(folder.to_owned()))
    }

    /// Returns the path of one of its programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let path = self.program(program);
        program_with(program, &path.to_string_lossy(), args, &[])
    }

    pub(crate) fn install(&self, args: &[&str]) -> Result<(), String> {
        self.run(
            "python",
            &[&["-m", "pip", "install", "--quiet"], args].concat(),
        )
    }
}

/// Makes the environment of maturin.
pub(crate) fn tools() -> Result<Environment, String> {
    let tools = Environment::new(&Path::new(FOLDER).join("tools"))?;
    tools.install(&["maturin>=1.9,<2"])?;
    Ok(tools)
}

/// Builds the wheel and returns its path.
pub(crate) fn build(tools: &Environment, debug: bool) -> Result<String, String> {
    let wheels = format!("{FOLDER}/{}", if debug { "debug" } else { "dist" });
    let profile = ["--profile", if debug { "dev" } else { "dist" }];
    let build = ["build", "--quiet", "--out", &wheels];
    let manifest = ["--manifest-path", MANIFEST];
    tools.run("maturin", &[&build[..], &manifest, &profile].concat())?;
    only_file(Path::new(&wheels), "whl")
}

/// Packs the sources, with those of the crates that they need, and returns the path of the archive.
pub(crate) fn sdist(tools: &Environment) -> Result<String, String> {
    let folder = format!("{FOLDER}/sdist");
    let args = ["sdist", "--out", &folder, "--manifest-path"];
    tools.run("maturin", &[&args[..], &[MANIFEST]].concat())?;
    only_file(Path::new(&folder), "gz")
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let tools = tools()?;
    if options.sdist {
        eprintln!("{}", sdist(&tools)?);
    }
    let wheel = build(&tools, options.debug)?;
    eprintln!("{wheel}");
    if !options.test {
        return Ok(());
    }
    let tested = Environment::new(&Path::new(FOLDER).join("tested"))?;
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

/// Returns the only file of a folder with an extension.
pub(crate) fn only_file(folder: &Path, extension: &str) -> Result<String, String> {
    let files = std::fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let found: Vec<PathBuf> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|its| its == extension))
        .collect();
    match &found[..] {
        [file] => Ok(file.to_string_lossy().into_owned()),
        _ => Err(format!(
            "{}: {} files of .{extension} instead of one",
            folder.display(),
            found.len()
        )),
    }
}
