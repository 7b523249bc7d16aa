//! Entries that disappeared without a remove.

use parking_lot::Mutex;
use rb_core::{Event, Events};

use crate::bell::Bell;

/// A kind of event, the key, and the length of the value in bytes.
pub(crate) type Gone = (&'static str, Box<[u8]>, u32);

/// Collects evictions and drops until Python asks for them.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) bell: Bell,
    gone: Mutex<Vec<Gone>>,
}

impl Observer {
    pub(crate) fn new(bell: Bell) -> Observer {
        Observer {
            bell,
            gone: Mutex::default(),
        }
    }

    pub(crate) fn take(&self) -> Vec<Gone> {
        self.bell.silence();
        std::mem::take(&mut self.gone.lock())
    }
}

impl Events for Observer {
    fn event(&self, event: &Event<'_>) {
        let gone = match *event {
            Event::Evicted { key, len, .. } => ("evicted", key.into(), len),
            Event::Dropped { key, len, .. } => ("dropped", key.into(), len),
            _ => return,
        };
        let mut waiting = self.gone.lock();
        waiting.push(gone);
        if waiting.len() == 1 {
            self.bell.ring();
        }
    }
}
