//! Places of the monitor's socket: next to the file of a store, or in a folder for sockets under the store's UUID.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rb_format::StoreUuid;
use rustix::process::geteuid;

use crate::background::monitor::socket;

/// The folder of root, and of a service to which it was given.
const SYSTEM: &str = "/run/raw-block";

/// The folder that holds a folder of each user who is logged in.
const USERS: &str = "/run/user";

const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A place where a socket can be.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) socket: PathBuf,
    folder: Folder,
}

/// The folder of a socket.
#[derive(Clone, Copy, Debug)]
enum Folder {
    /// That of the store's file. Others may be able to write it.
    OfStore,
    /// One that only its owner can write. It must exist.
    Private,
    /// The same, made with this mode if it does not exist.
    Made(u32),
}

/// Returns the places for a store, in the order in which they are tried. `file` is its path; `None` if it is on a
/// device.
pub(crate) fn places(file: Option<&Path>, uuid: &StoreUuid) -> Vec<Place> {
    let mut places = Vec::new();
    // The path of the file itself, if a link led to it.
    if let Some(file) = file.and_then(|file| fs::canonicalize(file).ok()) {
        let mut name: OsString = file.into();
        name.push(".monitor");
        places.push(Place {
            socket: name.into(),
            folder: Folder::OfStore,
        });
    }
    let user = geteuid();
    let name = format!("{uuid}.monitor");
    places.push(Place {
        socket: Path::new(SYSTEM).join(&name),
        folder: match user.is_root() {
            true => Folder::Made(0o755),
            false => Folder::Private,
        },
    });
    if !user.is_root() {
        let folder = Path::new(USERS).join(user.as_raw().to_string());
        places.push(Place {
            socket: folder.join("raw-block").join(&name),
            folder: Folder::Made(0o700),
        });
    }
    places
}

/// Returns the places where root finds sockets of others.
pub(crate) fn places_of_others(uuid: &StoreUuid) -> Vec<PathBuf> {
    if !geteuid().is_root() {
        return Vec::new();
    }
    let users = fs::read_dir(USERS).into_iter().flatten().flatten();
    let socket = |user: PathBuf| user.join("raw-block").join(format!("{uuid}.monitor"));
    users.map(|user| socket(user.path())).collect()
}

impl Place {
    /// Creates the socket. Returns it with device and inode of its file.
    ///
    /// # Errors
    /// The folder cannot be written or is not safe, or something else is there.
    pub(crate) fn listen(&self) -> io::Result<(UnixListener, (u64, u64))> {
        if let (Folder::Private | Folder::Made(_), Some(folder)) =
            (self.folder, self.socket.parent())
        {
            if let Folder::Made(mode) = self.folder {
                make_folder(folder, mode)?;
            }
            check_folder(folder)?;
        }
        let listener = match socket::listen_at(&self.socket) {
            Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
                self.remove_stale()?;
                socket::listen_at(&self.socket)?
            }
            listener => listener?,
        };
        let file = fs::symlink_metadata(&self.socket)?;
        Ok((listener, (file.dev(), file.ino())))
    }

    /// Removes the socket of a process that was killed. The caller holds the store's lock, so no other process serves this
    /// store.
    fn remove_stale(&self) -> io::Result<()> {
        let file = fs::symlink_metadata(&self.socket)?;
        let user = geteuid();
        if !file.file_type().is_socket() || !(user.is_root() || file.uid() == user.as_raw()) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is not a socket of this user's is in its place",
            ));
        }
        fs::remove_file(&self.socket)
    }
}

fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Checks that no other user can put a socket into a folder.
fn check_folder(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let is_trusted = found.uid() == 0 || found.uid() == geteuid().as_raw();
    match found.is_dir() && is_trusted && found.mode() & WRITABLE_BY_OTHERS == 0 {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is not a folder that only its owner can write",
                folder.display()
            ),
        )),
    }
}
