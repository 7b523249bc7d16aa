//! What an open store has of its device, until it is closed.

use std::sync::Arc;

use parking_lot::Mutex;
use rb_io::{Engine, Reservation};

use crate::error::Error;

/// The engine, and the reservation of the device. As long as either is held, others cannot open it for writing.
pub(crate) struct Hold {
    name: &'static str,
    held: Mutex<Option<Held>>,
}

struct Held {
    engine: Arc<dyn Engine>,
    #[expect(dead_code, reason = "it is held, that is what it is for")]
    reservation: Option<Reservation>,
}

impl Hold {
    pub(crate) fn new(engine: Arc<dyn Engine>, reservation: Option<Reservation>) -> Hold {
        Hold {
            name: engine.name(),
            held: Mutex::new(Some(Held {
                engine,
                reservation,
            })),
        }
    }

    /// The engine's name, also after the close.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// # Errors
    /// `Closed`: it was given back.
    pub(crate) fn engine(&self) -> Result<Arc<dyn Engine>, Error> {
        let held = self.held.lock();
        let engine = held.as_ref().map(|held| Arc::clone(&held.engine));
        engine.ok_or(Error::Closed)
    }

    /// Gives the device back.
    pub(crate) fn release(&self) {
        let held = self.held.lock().take();
        drop(held);
    }
}
