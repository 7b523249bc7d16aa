//! Pulls out a drive while a store works on it: errors, no panic, no hang, no wrong byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rb_core::StoreOptions;

use super::cell::{Cell, Outcome};
use super::target::{Entry, KIB, Target, entries, get, put, sync, try_put};
use crate::tally::words;

const THREADS: u64 = 4;
/// Time before the removal, and time that the threads may then take to see errors.
const WORK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs the test; the drive is gone afterwards.
pub fn removal(cell: &mut Cell, target: &Target) {
    let target = target.clone();
    cell.test("hot removal", move || remove(&target));
}

fn remove(target: &Target) -> Outcome {
    let switch = switch(&target.path)?;
    target.format(&[(64 * KIB, 512)])?;
    let store = target.open_with(|options: &mut StoreOptions| {
        options.io_deadline = Duration::from_secs(10);
        options.busy_wait = Duration::from_secs(2);
    })?;
    put(&store, &entries(0, 64, 64 * KIB), 16)?;
    sync(&store)?;
    let good = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + WORK + PATIENCE;
    let work = |thread: u64| {
        let (store, good) = (store.clone(), Arc::clone(&good));
        move || -> Outcome {
            let mut version = 1;
            while Instant::now() < until {
                version += 1;
                let mine: Vec<Entry> = entries(thread * 100, 8, 64 * KIB)
                    .into_iter()
                    .map(|entry| Entry { version, ..entry })
                    .collect();
                let mut answers = try_put(&store, &mine).into_iter();
                let refused = answers.find_map(Result::err);
                let refused = refused.or_else(|| {
                    let mut found = get(&store, &mine).into_iter();
                    found.find_map(Result::err)
                });
                match refused {
                    Some(why) => return Ok(why),
                    None => good.fetch_add(1, Ordering::Relaxed),
                };
            }
            Err("no error within the time, although the drive is gone".into())
        }
    };
    let threads: Vec<_> = (1..=THREADS)
        .map(|thread| std::thread::spawn(work(thread)))
        .collect();
    std::thread::sleep(WORK);
    fs::write(&switch, "1").map_err(|why| format!("{}: {why}", switch.display()))?;
    let pulled = Instant::now();
    let mut said = String::new();
    for thread in threads {
        said = thread.join().map_err(|_| "a thread panicked")??;
        if said.contains("was never put") || said.contains("bytes of key") {
            return Err(format!("wrong bytes: {said}"));
        }
    }
    let done = good.load(Ordering::Relaxed);
    let met = pulled.elapsed();
    // Nothing can be made durable any more, and the store must report that.
    let put = try_put(&store, &entries(900, 1, 64 * KIB));
    let closed = store.close();
    let ended = pulled.elapsed();
    if put.iter().all(Result::is_ok) {
        return Err("a put to a drive that is gone was acknowledged as done".into());
    }
    let Err(closed) = closed else {
        return Err("the close of a store whose drive is gone returned Ok".into());
    };
    Ok(format!(
        "{done} rounds of work; threads met errors within {met:.1?}, closed within {ended:.1?}; \
         they said: {said}; the close: {}",
        words(&closed)
    ))
}

/// Returns the sysfs file that removes the drive of a node.
fn switch(node: &Path) -> Result<PathBuf, String> {
    let name = node.file_name().unwrap_or_default();
    let serial = |folder: &Path| fs::read_to_string(folder.join("serial")).ok();
    let classes = ["/sys/block", "/sys/class/nvme-generic"].map(Path::new);
    let mut folders = classes.iter().map(|class| class.join(name).join("device"));
    let drive = folders.find_map(|folder| serial(&folder));
    // The namespace's device may be its subsystem; the controller's PCI function is what can be
    // removed.
    let controllers = fs::read_dir("/sys/class/nvme")
        .into_iter()
        .flatten()
        .flatten();
    let mut controllers = controllers.map(|entry| entry.path());
    let controller = controllers.find(|folder| drive.is_some() && serial(folder) == drive);
    let switch = controller.map(|folder| folder.join("device/remove"));
    let switch = switch.filter(|switch| switch.exists());
    switch.ok_or_else(|| format!("{} cannot be removed", node.display()))
}
