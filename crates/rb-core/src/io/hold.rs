//! The hold of an open store on its device, until it is closed.

use std::sync::Arc;

use parking_lot::Mutex;
use rb_io::{Engine, Reservation};

use crate::error::Error;

/// The engine and the reservation of the device. While either is held, no other process can open
/// the device for writing.
pub(crate) struct Hold {
    name: &'static str,
    held: Mutex<Option<Held>>,
    /// Kept until the last batch in flight has dropped its reference to the store.
    hanging: Mutex<Option<Reservation>>,
}

struct Held {
    engine: Arc<dyn Engine>,
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
            hanging: Mutex::default(),
        }
    }

    /// The engine's name; available after the close, too.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the engine.
    ///
    /// # Errors
    /// `Closed`: the device was released.
    pub(crate) fn engine(&self) -> Result<Arc<dyn Engine>, Error> {
        let held = self.held.lock();
        let engine = held.as_ref().map(|held| Arc::clone(&held.engine));
        engine.ok_or(Error::Closed)
    }

    /// Releases the device. The reservation is kept while requests of a hanging queue may still
    /// reach the device: no other host may use it until then.
    pub(crate) fn release(&self) {
        let Some(Held {
            engine,
            reservation,
        }) = self.held.lock().take()
        else {
            return;
        };
        drop(engine);
        if let Some(reservation) = reservation {
            match reservation.is_sole_user() {
                true => drop(reservation),
                false => *self.hanging.lock() = Some(reservation),
            }
        }
    }
}
