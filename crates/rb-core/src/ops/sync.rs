//! An async sync.

use std::sync::Arc;

use crate::core::inner::Inner;
use crate::error::Error;
use crate::operation::{Operation, operation};
use crate::trace::Trace;

/// Starts a sync.
pub(crate) fn sync_async(inner: &Arc<Inner>) -> Operation<Result<(), Error>> {
    let (operation, completer) = operation(Err);
    match inner.enter_writing() {
        Err(error) => completer.complete(Err(error)),
        Ok((pass, writer)) => {
            let timer = inner.begin(Trace::sync);
            let ticket = writer.log.ticket();
            let stopped = Arc::downgrade(inner);
            let waiter = move |outcome: Result<(), Error>| {
                let store = stopped.upgrade();
                let outcome = match &store {
                    // A file may have been truncated after its contents became durable.
                    Some(inner) => outcome
                        .and_then(|()| inner.check_size().inspect_err(|_| inner.notify_poisoned()))
                        .map_err(|error| inner.stopped(error)),
                    None => outcome,
                };
                if let Some(inner) = store {
                    timer.end(&inner.counters.times.sync, &outcome);
                }
                drop(pass);
                completer.complete(outcome);
            };
            writer.log.when_synced(ticket, Box::new(waiter));
            if inner.is_manual() {
                drop(inner.commit(writer));
            }
        }
    }
    operation
}
