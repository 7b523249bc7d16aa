//! The in-flight table: it owns a part, and with it the buffer, from push to completion.

use crate::request::Part;

/// Parts in flight, with the data that an engine adds to them. The kernel or a server identifies
/// them by index and generation, never by pointer. An id that comes back twice finds nothing,
/// because its generation has ended.
#[derive(Debug)]
pub(crate) struct FlightTable<T = Part> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    part: Option<T>,
}

impl<T> FlightTable<T> {
    pub(crate) fn new(depth: u32) -> Self {
        let slots = (0..depth)
            .map(|_| Slot {
                generation: 0,
                part: None,
            })
            .collect();
        Self {
            slots,
            free: (0..depth).rev().collect(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        // Both lengths are at most the depth.
        (self.slots.len() - self.free.len()) as u32
    }

    /// Inserts a part and returns its id; returns the part if the table is full.
    pub(crate) fn insert(&mut self, part: T) -> Result<u64, T> {
        let Some(index) = self.free.pop() else {
            return Err(part);
        };
        let slot = &mut self.slots[index as usize];
        slot.part = Some(part);
        Ok((u64::from(slot.generation) << 32) | u64::from(index))
    }

    pub(crate) fn get(&self, name: u64) -> Option<&T> {
        let slot = self.slots.get(index(name))?;
        slot.part
            .as_ref()
            .filter(|_| slot.generation == generation(name))
    }

    /// Returns the ids of the parts for which `wanted` is true.
    pub(crate) fn names(&self, wanted: impl Fn(&T) -> bool) -> Vec<u64> {
        let slots = self.slots.iter().enumerate();
        let wanted = slots.filter(|(_, slot)| slot.part.as_ref().is_some_and(&wanted));
        wanted
            .map(|(index, slot)| (u64::from(slot.generation) << 32) | index as u64)
            .collect()
    }

    pub(crate) fn remove(&mut self, name: u64) -> Option<T> {
        let slot = self.slots.get_mut(index(name))?;
        if slot.generation != generation(name) {
            return None;
        }
        let part = slot.part.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(name) as u32);
        Some(part)
    }
}

fn index(name: u64) -> usize {
    (name & u64::from(u32::MAX)) as usize
}

fn generation(name: u64) -> u32 {
    (name >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::OpKind;

    fn part(token: u64) -> Part {
        Part {
            token,
            op: OpKind::Flush,
            offset: 0,
            len: 0,
            buf: None,
            buf_offset: 0,
            placement: None,
        }
    }

    #[test]
    fn a_name_is_good_once() {
        let mut table = FlightTable::new(1);
        let first = table.insert(part(1)).unwrap();
        assert_eq!(table.insert(part(2)).unwrap_err().token, 2, "full");
        assert_eq!(table.remove(first).unwrap().token, 1);
        let second = table.insert(part(3)).unwrap();
        assert_ne!(first, second);
        assert!(
            table.remove(first).is_none(),
            "a stale name must find nothing"
        );
        assert_eq!(table.len(), 1);
        assert!(table.get(u64::MAX).is_none());
    }
}
