//! Environments of Python, made from the registry and kept. Each is named after its requirements, so that others make a
//! new one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::run::program_with;
use crate::task_wheel::Environment;

/// Folder of the programs, and of what the environments require.
pub(super) const PROGRAMS: &str = "crates/rb-python/door";

/// Pythons that all engines support.
const HOSTS_PYTHON: &str = ">=3.11,<3.14";

/// Installs in seconds what pip takes minutes for.
const UV: &str = "uv==0.13.9";

/// The file that marks an environment as complete.
const COMPLETE: &str = "complete";

/// The folder of the environments, and the wheel that is installed into each.
pub(super) struct Door {
    pub(super) folder: PathBuf,
    pub(super) wheel: String,
    uv: PathBuf,
}

impl Door {
    pub(super) fn new(folder: PathBuf, wheel: String) -> Result<Door, String> {
        std::fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        let tools = Environment::new(&folder.join("tools"))?;
        tools.install(&[UV])?;
        let uv = tools.program("uv");
        Ok(Door { folder, wheel, uv })
    }

    /// Makes the environment with all engines, and returns its Python.
    pub(super) fn hosts(&self) -> Result<PathBuf, String> {
        let file = |name: &str| format!("{PROGRAMS}/requirements/{name}.txt");
        let (hosts, overrides, alone) = (file("hosts"), file("overrides"), file("alone"));
        let read = |path: &String| std::fs::read_to_string(path).map_err(|why| why.to_string());
        let key = (read(&hosts)?, read(&overrides)?, read(&alone)?);
        self.make("hosts", &key, HOSTS_PYTHON, |python| {
            self.install(python, &["-r", &hosts, "--override", &overrides])?;
            self.install(python, &["--no-deps", "-r", &alone])
        })
    }

    /// Makes an environment with another version of one engine, which takes all else from that with all engines.
    pub(super) fn other(&self, hosts: &Path, requirement: &str) -> Result<PathBuf, String> {
        let name = requirement.replace("==", "-");
        self.make(
            &name,
            &(requirement, hosts),
            &hosts.to_string_lossy(),
            |python| {
                self.install(python, &["--no-deps", requirement])?;
                // Later in the search path than its own packages.
                let packages = site_packages(hosts)?;
                let link = site_packages(python)?.join("hosts.pth");
                let line = format!("{}\n", packages.display());
                std::fs::write(&link, line).map_err(|why| format!("{}: {why}", link.display()))
            },
        )
    }

    /// Makes an environment with nothing but the wheel.
    pub(super) fn bare(&self, python: &str, name: &str) -> Result<PathBuf, String> {
        self.make(name, &python, python, |_| Ok(()))
    }

    fn make(
        &self,
        name: &str,
        key: &impl Hash,
        python: &str,
        fill: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let folder = self
            .folder
            .join(format!("{name}-{:08x}", hasher.finish() >> 32));
        let folder = std::path::absolute(&folder).map_err(|why| why.to_string())?;
        let its_python = folder.join("bin/python");
        if !folder.join(COMPLETE).exists() {
            let folder_text = folder.to_string_lossy();
            self.uv(&[
                "venv",
                "--quiet",
                "--clear",
                "--python",
                python,
                &folder_text,
            ])?;
            fill(&its_python)?;
            std::fs::write(folder.join(COMPLETE), "").map_err(|why| why.to_string())?;
        }
        self.install(&its_python, &["--no-deps", "--reinstall", &self.wheel])?;
        Ok(its_python)
    }

    fn install(&self, python: &Path, args: &[&str]) -> Result<(), String> {
        let python = python.to_string_lossy();
        self.uv(&[&["pip", "install", "--quiet", "--python", &python], args].concat())
    }

    fn uv(&self, args: &[&str]) -> Result<(), String> {
        // Next to the environments, so that files are linked and not copied.
        let cache = self.folder.join("uv-cache");
        let env = [
            ("UV_CACHE_DIR", &*cache.to_string_lossy()),
            ("UV_PYTHON_DOWNLOADS", "never"),
        ];
        program_with("uv", &self.uv.to_string_lossy(), args, &env)
    }

    /// Returns the path of uv and the folder of its cache.
    pub(super) fn uv_paths(&self) -> (PathBuf, PathBuf) {
        (self.uv.clone(), self.folder.join("uv-cache"))
    }
}

/// Returns the folder of the packages of an environment.
fn site_packages(python: &Path) -> Result<PathBuf, String> {
    let library = python.with_file_name("..").join("lib");
    let mut found = std::fs::read_dir(&library)
        .map_err(|why| format!("{}: {why}", library.display()))?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
        .filter(|path| path.exists());
    let found = found.next().and_then(|path| path.canonicalize().ok());
    found.ok_or_else(|| format!("{}: no site-packages", library.display()))
}
