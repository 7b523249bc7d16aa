//! A queue of entry numbers from which any can be taken.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default)]
struct Links {
    newer: u32,
    older: u32,
}

/// The links of all entries: an entry is in one queue at most.
#[derive(Debug, Default)]
pub(super) struct Linked {
    links: Vec<Links>,
}

/// One queue, newest to oldest.
#[derive(Debug)]
pub(super) struct Queue {
    newest: u32,
    oldest: u32,
    pub(super) len: usize,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            newest: NONE,
            oldest: NONE,
            len: 0,
        }
    }
}

impl Queue {
    pub(super) fn push(&mut self, linked: &mut Linked, entry: u32) {
        let at = entry as usize;
        if linked.links.len() <= at {
            linked.links.resize(at + 1, Links::default());
        }
        linked.links[at] = Links {
            newer: NONE,
            older: self.newest,
        };
        match self.newest {
            NONE => self.oldest = entry,
            newest => linked.links[newest as usize].newer = entry,
        }
        self.newest = entry;
        self.len += 1;
    }

    pub(super) fn take(&mut self, linked: &mut Linked, entry: u32) {
        let Links { newer, older } = linked.links[entry as usize];
        match newer {
            NONE => self.newest = older,
            newer => linked.links[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => linked.links[older as usize].newer = newer,
        }
        self.len -= 1;
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The entry after this one on the way from the oldest to the newest.
    pub(super) fn newer(&self, linked: &Linked, entry: u32) -> Option<u32> {
        let newer = linked.links[entry as usize].newer;
        (newer != NONE).then_some(newer)
    }

    /// From the oldest on.
    pub(super) fn iter<'a>(&'a self, linked: &'a Linked) -> impl Iterator<Item = u32> + 'a {
        std::iter::successors(self.oldest(), |&entry| self.newer(linked, entry))
    }
}
