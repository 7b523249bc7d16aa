//! Puts in progress in one shard, indexed by key so that a remove or a newer put can reach them.

use hashbrown::HashTable;

use crate::place::Place;
use crate::put::{PutMode, Reservation};

/// An event between the reservation of a put and its publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meanwhile {
    Nothing,
    Removed,
    Superseded,
}

#[derive(Debug)]
struct Put {
    hash: u64,
    generation: u64,
    ticket: u64,
    key: Box<[u8]>,
    meanwhile: Meanwhile,
}

#[derive(Debug, Default)]
pub(crate) struct Pending {
    puts: HashTable<Put>,
    tickets: u64,
}

impl Pending {
    pub(crate) fn enter(
        &mut self,
        hash: u64,
        key: &[u8],
        generation: u64,
        mode: PutMode,
        place: Place,
    ) -> Reservation {
        self.tickets += 1;
        let ticket = self.tickets;
        let put = Put {
            hash,
            generation,
            ticket,
            key: key.into(),
            meanwhile: Meanwhile::Nothing,
        };
        self.puts.insert_unique(hash, put, |put| put.hash);
        Reservation {
            hash,
            generation,
            ticket,
            mode,
            place,
        }
    }

    /// Ends a put; `None` if it is not known with this key.
    pub(crate) fn leave(&mut self, reservation: &Reservation, key: &[u8]) -> Option<Meanwhile> {
        let is_it = |put: &Put| put.ticket == reservation.ticket && *put.key == *key;
        let found = self.puts.find_entry(reservation.hash, is_it).ok()?;
        Some(found.remove().0.meanwhile)
    }

    /// Notifies the puts of the key that are older than `generation`. The first notification
    /// stands.
    pub(crate) fn notify(&mut self, hash: u64, key: &[u8], generation: u64, what: Meanwhile) {
        for put in self.puts.iter_hash_mut(hash) {
            let concerned = put.hash == hash && *put.key == *key && put.generation < generation;
            if concerned && put.meanwhile == Meanwhile::Nothing {
                put.meanwhile = what;
            }
        }
    }

    /// Returns all puts in progress in the order in which they began, and how many ever began.
    pub(crate) fn sorted(&self) -> (Vec<impl std::fmt::Debug + '_>, u64) {
        let Pending { puts, tickets } = self;
        let mut puts: Vec<&Put> = puts.iter().collect();
        puts.sort_unstable_by_key(|put| put.ticket);
        (puts, *tickets)
    }

    /// Returns the number of puts in progress.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.puts.len()
    }
}
