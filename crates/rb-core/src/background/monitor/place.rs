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
    if let Some(socket) = file.and_then(socket_of_file) {
        places.push(Place {
            socket,
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

/// Returns the sockets of all stores in the folders for sockets: of the system, of the user, and for root of all users.
pub(crate) fn sockets_of_all() -> Vec<PathBuf> {
    let user = geteuid();
    let mut folders = vec![PathBuf::from(SYSTEM)];
    let users = match user.is_root() {
        true => names_in(Path::new(USERS)),
        false => vec![Path::new(USERS).join(user.as_raw().to_string())],
    };
    folders.extend(users.iter().map(|user| user.join("raw-block")));
    let sockets = folders.iter().flat_map(|folder| names_in(folder));
    let is_monitor = |path: &PathBuf| path.extension().is_some_and(|is| is == "monitor");
    sockets.filter(is_monitor).collect()
}

fn names_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Returns the path of the socket next to a store's file; `None` if the file does not exist.
pub(crate) fn socket_of_file(file: &Path) -> Option<PathBuf> {
    // The path of the file itself, if a link led to it.
    let mut name: OsString = fs::canonicalize(file).ok()?.into();
    name.push(".monitor");
    Some(name.into())
}

/// Checks that a socket was made by root, by this user or by the owner of the store, and that it is no link. Another user
/// could have put one into a shared folder, to answer with lies or to pass the question on.
pub(crate) fn check_socket(socket: &Path, store_owner: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(socket)?;
    let (owner, user) = (found.uid(), geteuid());
    let is_known = owner == 0 || owner == user.as_raw() || owner == store_owner;
    // The folder of a service, in which only the service makes sockets.
    let of_service = || {
        let folder = socket
            .parent()
            .and_then(|folder| fs::symlink_metadata(folder).ok());
        user.is_root()
            && folder.is_some_and(|of| of.uid() == owner && of.mode() & WRITABLE_BY_OTHERS == 0)
    };
    match found.file_type().is_socket() && (is_known || of_service()) {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it is not a socket of this user or of the store's owner, but of user {owner}"),
        )),
    }
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

    /// Removes the socket of a process that was killed. One on which a process listens stays: it may serve a copy of the
    /// store with the same UUID, or a file that was here before.
    fn remove_stale(&self) -> io::Result<()> {
        let in_use = |what| Err(io::Error::new(io::ErrorKind::AddrInUse, what));
        let file = fs::symlink_metadata(&self.socket)?;
        if !file.file_type().is_socket() || file.uid() != geteuid().as_raw() {
            return in_use("something that is not a socket of this user's is in its place");
        }
        match socket::connect_to(&self.socket) {
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(&self.socket)
            }
            _ => in_use("another process listens there"),
        }
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
